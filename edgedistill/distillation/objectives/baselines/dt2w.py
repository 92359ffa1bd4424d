"""Alignment of layers over time by soft-DTW."""

from __future__ import annotations

from typing import Any

import torch
from edgedistill_kernels import soft_dtw as kernel
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from edgedistill.distillation.features import Pair
from edgedistill.distillation.objectives.baselines.layers import LayerObjective
from edgedistill.distillation.objectives.objective import Batch, StudentOutputs
from edgedistill.errors import ShapeError


class DT2W(LayerObjective):
    """Soft-DTW between the outputs of two layers over time: equal shapes, perhaps shifted.

    As published: soft-DTW of feature maps with the squared distance of two steps. Our choices:
    a trained convolution of one step where the student has fewer or more channels, sequences
    averaged down to at most `steps` because the cost grows with their square, and the value
    divided by the steps, so that its weight does not depend on them. It may be negative, and
    it is not lowest at the teacher's own sequence: soft-DTW prefers one a little smoother.

    Source: Qiao et al. 2023, "Class-Incremental Learning on Multivariate Time Series Via
    Shape-Aligned Temporal Distillation" (ICASSP); Cuturi and Blondel 2017, arXiv:1703.01541.
    """

    def __init__(self, pair: Pair, *, gamma: float, steps: int) -> None:
        """Start with a random projection, if one is needed.

        Args:
            pair: the layers, (N, C', T') and (N, C'', T').
            gamma: softness of the minimum over warpings; above 0.
            steps: most steps that are compared.
        """
        super().__init__(pair)
        widths = pair.student_channels, pair.teacher_channels
        same = widths[0] == widths[1]
        self.projection: nn.Module = nn.Identity() if same else nn.Conv1d(*widths, 1)
        self._gamma, self._steps = gamma, steps

    def forward(self, batch: Batch, outputs: StudentOutputs) -> Tensor:
        """Return the loss, a scalar."""
        student, teacher = self.layer_outputs(batch, outputs)
        steps = min(self._steps, student.shape[2])
        student, teacher = (
            functional.adaptive_avg_pool1d(output, steps) for output in (student, teacher)
        )
        return soft_dtw(self.projection(student), teacher, gamma=self._gamma).mean() / steps


def soft_dtw(first: Tensor, second: Tensor, *, gamma: float) -> Tensor:
    """Return the soft-DTW of sequences under squared distances of steps, with its gradient.

    The loop over steps runs on the CPU in float64, wherever the sequences are.

    Args:
        first: sequences of S steps, (N, C, S).
        second: sequences of L steps, (N, C, L).
        gamma: softness of the minimum over warpings; above 0.

    Returns:
        (N,); negative where many warpings are cheap.

    Raises:
        ShapeError: the sequences differ in N or C.

    Source: Cuturi and Blondel 2017, arXiv:1703.01541.
    """
    if first.shape[:2] != second.shape[:2]:
        raise ShapeError(
            f"Got sequences of shape {tuple(first.shape)} and {tuple(second.shape)}. Project "
            "them to the same channels first."
        )
    outputs: tuple[Tensor, Tensor]
    outputs = _SoftDTW.apply(_costs(first, second), gamma)  # type: ignore[no-untyped-call]
    return outputs[0]


def _costs(first: Tensor, second: Tensor) -> Tensor:
    """Return squared distances, (N, S, L), without the (N, C, S, L) of a subtraction."""
    squares = first.square().sum(dim=1)[:, :, None] + second.square().sum(dim=1)[:, None]
    return squares - 2 * first.transpose(1, 2) @ second


class _SoftDTW(torch.autograd.Function):
    @staticmethod
    def forward(costs: Tensor, gamma: float) -> tuple[Tensor, Tensor]:
        values, table = kernel.soft_dtw(costs.detach().cpu().numpy(), gamma=gamma)
        return torch.from_numpy(values).to(costs), torch.from_numpy(table)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        costs, ctx.gamma = inputs
        ctx.mark_non_differentiable(output[1])
        ctx.save_for_backward(costs, output[1])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor, None]:
        costs, table = ctx.saved_tensors
        arrays = (tensor.detach().cpu().numpy() for tensor in (grad, costs, table))
        gradient = kernel.soft_dtw_backward(*arrays, gamma=ctx.gamma)
        return torch.from_numpy(gradient).to(costs), None
