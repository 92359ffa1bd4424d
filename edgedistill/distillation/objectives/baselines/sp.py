"""Similarity-preserving distillation: match the similarities among the series of a batch."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from edgedistill.distillation.objectives.baselines.layers import LayerObjective
from edgedistill.distillation.objectives.objective import Batch, StudentOutputs


class SP(LayerObjective):
    """The squared difference of the similarities of all pairs in a batch, divided by N².

    A similarity is the product of two series' flattened layers; each series' similarities are
    divided by their L2 norm. Layers of different length are averaged down to the shorter first,
    which is ours: the similarities would not need it.

    Source: Tung and Mori 2019, arXiv:1907.09682.
    """

    def forward(self, batch: Batch, outputs: StudentOutputs) -> Tensor:
        """Return the loss, a scalar."""
        student, teacher = (_similarities(layer) for layer in self.layer_outputs(batch, outputs))
        return (student - teacher).square().mean()


def _similarities(layer: Tensor) -> Tensor:
    flat = layer.flatten(1)
    return functional.normalize(flat @ flat.T, dim=1)  # (N, N), rows of length 1
