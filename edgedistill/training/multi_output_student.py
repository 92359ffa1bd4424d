"""A student that is asked for all that objectives need, in one forward."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn

from edgedistill.attribution.incremental.propagation import IncrementalModel, record
from edgedistill.distillation.features import Features, record_features
from edgedistill.distillation.objectives import Windows

View = tuple[Tensor, Features]  # logits and outputs of layers


class MultiOutputStudent(nn.Module):
    """Answers series and windows, and says what its layers gave; one forward, as DDP wants it."""

    def __init__(self, student: nn.Module) -> None:
        super().__init__()
        self.student = student
        self._graph = (record(student),)  # in a tuple: its parameters are the student's own

    def forward(
        self,
        series: Tensor,
        windows: Sequence[Windows | None],
        layers: Sequence[str] = (),
        views: Sequence[Tensor | None] = (),
    ) -> tuple[Tensor, list[Tensor | None], Features, list[View | None]]:
        """Return logits, how windows change them, the outputs of layers, and answers to views.

        Args:
            series: (N, C, T).
            windows: sets of windows.
            layers: names.
            views: sets of other versions of the series, (V, N, C, T).

        Returns:
            Logits (N, K); for each set of windows the changes (N, W, K), those of other widths
            behind; outputs by name; for each set of views the logits (V, N, K) and outputs by
            name, (V, N, ...).
        """
        logits, changes, found = self._clean(series, windows, layers)
        return logits, changes, found, [v if v is None else self._view(v, layers) for v in views]

    def _clean(
        self, series: Tensor, windows: Sequence[Windows | None], layers: Sequence[str]
    ) -> tuple[Tensor, list[Tensor | None], Features]:
        with record_features(self.student, layers) as found:
            if not any(windows):
                return self.student(series).float(), [None] * len(windows), found
            known = IncrementalModel(self.student, series, graph=self._graph[0])
        changes = [
            None if windows is None else _changes(known, windows).float() for windows in windows
        ]
        return known.logits.float(), changes, found

    def _view(self, views: Tensor, layers: Sequence[str]) -> View:
        with record_features(self.student, layers) as found:
            logits = self.student(views.flatten(0, 1)).float()
        split = partial(_split, views=views)
        return split(logits), {name: split(value) for name, value in found.items()}


def _changes(model: IncrementalModel, windows: Windows) -> Tensor:
    answers = [model.changes(part.starts, part.patches) for part in windows.widths]
    return torch.cat([answer.changes for answer in answers], dim=1)


def _split(value: Tensor, views: Tensor) -> Tensor:
    """Return (V * N, ...) as (V, N, ...)."""
    return value.reshape(*views.shape[:2], *value.shape[1:])
