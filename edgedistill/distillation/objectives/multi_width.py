"""One objective at several widths of windows, as a weighted mean."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import cast

import torch
from torch import Tensor, nn

from edgedistill.distillation.objectives.objective import Batch, Objective, StudentOutputs, Windows


class MultiWidthObjective(Objective):
    """The weighted mean of objectives whose windows have one width each.

    A narrow window shows where a short event counts, a wide one what several steps count
    together. Comparing them at once is ours.
    """

    def __init__(self, parts: Sequence[Objective], weights: Sequence[float]) -> None:
        """Keep the objectives and their shares.

        Args:
            parts: objectives, each with windows of one width, that read how these change logits.
            weights: weights of the parts; they are divided by their sum.
        """
        super().__init__()
        self.parts = nn.ModuleList(parts)
        self._shares = [weight / sum(weights) for weight in weights]

    def windows(self, batch: Batch) -> Windows | None:
        """Return the windows of all parts."""
        windows = [part.windows(batch) for part in cast("list[Objective]", list(self.parts))]
        first, *others = [windows for windows in windows if windows is not None]
        return replace(first, others=tuple(others))

    def forward(self, batch: Batch, outputs: StudentOutputs) -> Tensor:
        """Return the loss, a scalar."""
        windows, changes = outputs.perturbed()
        numbers = [each.patches.shape[1] for each in windows.widths]
        pieces = torch.split(changes, numbers, dim=1)
        losses = [
            share * part(batch, replace(outputs, windows=replace(each, others=()), changes=piece))
            for share, part, each, piece in zip(
                self._shares, self.parts, windows.widths, pieces, strict=True
            )
        ]
        return torch.stack(losses).sum()


def split_windows(windows: int, widths: int) -> list[int]:
    """Split the windows of a step among the widths; the first takes the remainder.

    >>> split_windows(50, 3)
    [18, 16, 16]
    """
    each, left = divmod(windows, widths)
    return [each + left, *[each] * (widths - 1)]
