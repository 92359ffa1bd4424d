"""Attention transfer: match where in time a layer is active."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from edgedistill.distillation.objectives.baselines.layers import LayerObjective
from edgedistill.distillation.objectives.objective import Batch, StudentOutputs


class AttentionTransfer(LayerObjective):
    """Mean squared difference of the attention over time, one value a step, of unit length.

    The attention is the mean over channels of the squared output, so the layers may differ in
    width. As published for images, with time in place of both axes; the mean over steps, not
    their sum, is that of the authors' code, which the usual weight of 1000 belongs to. Our
    choice: one pair of layers, not one of every stage.

    Source: Zagoruyko and Komodakis 2017, arXiv:1612.03928, equation 2 with p = 2.
    """

    def forward(self, batch: Batch, outputs: StudentOutputs) -> Tensor:
        """Return the loss, a scalar."""
        student, teacher = self.layer_outputs(batch, outputs)
        return functional.mse_loss(_attention(student), _attention(teacher))


def _attention(output: Tensor) -> Tensor:
    """Return the attention over time, (N, T'), of a layer's output, (N, C', T')."""
    return functional.normalize(output.square().mean(dim=1), dim=1)
