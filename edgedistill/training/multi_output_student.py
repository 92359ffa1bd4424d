"""A student with all outputs that objectives need, from one forward pass."""

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
    """Logits of series, windows and views, and outputs of layers; one forward, as DDP requires."""

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
        """Return logits, their changes by windows, the outputs of layers, and those of views.

        Args:
            series: (N, C, T).
            windows: sets of windows.
            layers: names of the layers.
            views: sets of other versions of the series, (V, N, C, T).

        Returns:
            Logits (N, K); for each set of windows the changes (N, W, K), one width after the
            other; outputs by name; for each set of views the logits (V, N, K) and outputs by
            name, (V, N, ...).
        """
        logits, changes, features = self._clean(series, windows, layers)
        return logits, changes, features, [v if v is None else self._view(v, layers) for v in views]

    def _clean(
        self, series: Tensor, windows: Sequence[Windows | None], layers: Sequence[str]
    ) -> tuple[Tensor, list[Tensor | None], Features]:
        with record_features(self.student, layers) as features:
            if not any(windows):
                return self.student(series).float(), [None] * len(windows), features
            model = IncrementalModel(self.student, series, graph=self._graph[0])
        changes = [None if part is None else _changes(model, part).float() for part in windows]
        return model.logits.float(), changes, features

    def _view(self, views: Tensor, layers: Sequence[str]) -> View:
        with record_features(self.student, layers) as features:
            logits = self.student(views.flatten(0, 1)).float()
        split = partial(_split, views=views)
        return split(logits), {name: split(value) for name, value in features.items()}


def _changes(model: IncrementalModel, windows: Windows) -> Tensor:
    results = [model.changes(part.starts, part.patches) for part in windows.widths]
    return torch.cat([result.changes for result in results], dim=1)


def _split(value: Tensor, views: Tensor) -> Tensor:
    """Return (V * N, ...) as (V, N, ...)."""
    return value.reshape(*views.shape[:2], *value.shape[1:])
