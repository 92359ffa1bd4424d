"""Soft-DTW as a torch function: the compiled kernel, with its gradient."""

from __future__ import annotations

from typing import Any

import torch
from edgedistill_kernels import soft_dtw as kernel
from torch import Tensor
from torch.autograd.function import once_differentiable

from edgedistill.errors import ShapeError


def soft_dtw(first: Tensor, second: Tensor, *, gamma: float) -> Tensor:
    """Return soft-DTW of sequences, with the squared distance of two steps as their cost.

    The loop over steps runs on the CPU in float64, wherever the sequences are.

    Args:
        first: (N, C, S).
        second: (N, C, L).
        gamma: how soft the minimum over warpings is; above 0.

    Returns:
        (N,); negative where many warpings are cheap.

    Raises:
        ShapeError: they differ in N or C.

    Source: Cuturi and Blondel 2017, arXiv:1703.01541.
    """
    if first.shape[:2] != second.shape[:2]:
        raise ShapeError(
            f"Got sequences of shape {tuple(first.shape)} and {tuple(second.shape)}. Project "
            "them to the same channels first."
        )
    found: tuple[Tensor, Tensor]
    found = _SoftDTW.apply(_costs(first, second), gamma)  # type: ignore[no-untyped-call]
    return found[0]


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
        found = kernel.soft_dtw_backward(*arrays, gamma=ctx.gamma)
        return torch.from_numpy(found).to(costs), None
