"""A torch module as a classifier."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from edgedistill.attribution.incremental.propagation import IncrementalModel, record
from edgedistill.errors import ModelError
from edgedistill.io.arrays import Floats, Ints
from edgedistill.teachers.classifier import check_logits, check_series

_BATCH = 256  # series at once; bounds the memory of thousands of perturbed copies


class TorchClassifier:
    """A module that maps (N, C, T) to (N, K), in evaluation mode and without gradients.

    It computes where the module's parameters are.
    """

    can_explain = True

    def __init__(self, module: nn.Module, *, classes: int, name: str = "torch") -> None:
        self.module = module.eval()
        self.classes = classes
        self.name = name
        self._graph = record(module)

    @torch.no_grad()
    def logits(self, x: Floats) -> Floats:
        """Return logits, (N, K) float32, of series, (N, C, T) float32.

        Raises:
            ShapeError: the series are not (N, C, T).
            ModelError: the module gives something other than K finite logits a series.
        """
        check_series(x)
        self.module.eval()  # it may have been trained in between
        first = next(self.module.parameters(), torch.empty(0))
        parts = []
        for start in range(0, len(x), _BATCH):
            batch = torch.from_numpy(np.ascontiguousarray(x[start : start + _BATCH]))
            output = self.module(batch.to(device=first.device, dtype=first.dtype))
            if not isinstance(output, torch.Tensor):
                raise ModelError(
                    f"The teacher {self.name} gives a {type(output).__name__}. "
                    "Wrap it in a module that returns the logits alone, (N, K)."
                )
            parts.append(output.float().cpu().numpy())
        logits: Floats = np.concatenate(parts)
        check_logits(logits, name=self.name, count=len(x), classes=self.classes)
        return logits

    @torch.no_grad()
    def changes(self, x: Floats, starts: Ints, patches: Floats) -> Floats:
        """Return the change of the logits by each window, computed incrementally.

        Args:
            x: series, (N, C, T).
            starts: first step of each window, (W,), or (N, W) if every series has its own.
            patches: values that replace each window, (N, W, C, w).

        Returns:
            (N, W, K) float32.
        """
        self.module.eval()
        first = next(self.module.parameters(), torch.empty(0))
        model = IncrementalModel(self.module, torch.from_numpy(x).to(first), graph=self._graph)
        begins = torch.from_numpy(np.atleast_2d(starts)).to(first.device)
        result = model.changes(begins, torch.from_numpy(patches).to(first))
        changes: Floats = result.changes.float().cpu().numpy()
        return changes
