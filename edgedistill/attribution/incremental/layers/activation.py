"""ReLUs and other activations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from edgedistill.attribution.incremental.layers.rule import (
    Change,
    Regions,
    Rule,
    Value,
    at_region,
    clean_reader,
    require_pair,
)
from edgedistill.attribution.incremental.regions import Clean, MaskOutside, Region


@dataclass(frozen=True, slots=True)
class Relu(Rule):
    """The positive part."""

    reads_clean: ClassVar[bool] = True

    def prepare_clean_input(self, value: Tensor, source: Region | None) -> Value:
        """Return -z and its positive part; beyond the borders nothing is larger."""
        if source is None:
            return -value, (-value).relu()
        below = Clean(-value, source, beyond=torch.finfo(value.dtype).max)
        return below, below.mapped(torch.relu)

    def graph_layer(self, sources: Regions) -> nn.Module:
        """Return the layer of a graph."""
        return _ReluLayer(self, sources)

    def apply(self, changes: Sequence[Change], clean: Value) -> Change:
        """Return max(z + dz, 0) - max(z, 0), as max(dz, -z) - max(-z, 0): a pass less."""
        change = changes[0]
        seen, seen_floor = require_pair(clean)
        below = at_region(seen, change.region)
        if torch.is_grad_enabled() and (change.value.requires_grad or below.requires_grad):
            return Change(rectified(change.value, below), change.region)
        floor = at_region(seen_floor, change.region)
        return Change(torch.maximum(change.value, below).sub_(floor), change.region)


class _ReluLayer(nn.Module):
    """max(z + dz, 0) - max(z, 0), as max(dz, -z) - max(-z, 0): dz is not rounded away."""

    def __init__(self, rule: Relu, sources: Regions) -> None:
        super().__init__()
        del rule
        self.at = clean_reader(sources[0])
        # Convolutions that only a ReLU reads leave their mask to it.
        self.masked = nn.Identity() if sources[0] is None else MaskOutside(sources[0])

    def forward(self, changes: Sequence[Tensor], clean: Tensor) -> Tensor:
        below: Tensor = self.at(-clean)
        masked: Tensor = self.masked(torch.maximum(changes[0], below) - below.relu())
        return masked


def rectified(change: Tensor, below: Tensor) -> Tensor:
    """Return max(z + dz, 0) - max(z, 0).

    Args:
        change: dz, of any shape.
        below: -z, of the same shape.
    """
    result = _Rectified.apply(change, below.to(change.dtype))  # type: ignore[no-untyped-call]
    return cast(Tensor, result)


class _Rectified(torch.autograd.Function):
    """The positive part of a change, with a backward pass of few operations.

    Torch's own for a maximum looks for ties first: in a training step of a compact student that
    took as long as all convolutions.
    """

    @staticmethod
    def forward(ctx: Any, change: Tensor, below: Tensor) -> Tensor:
        # Masks of ones and zeros: torch multiplies by these five times as fast as by booleans.
        passes = torch.gt(change, below, out=torch.empty_like(change))
        was_off = torch.gt(below, 0, out=torch.empty_like(change))
        ctx.save_for_backward(passes, was_off)
        return torch.maximum(change, below).sub_(below.relu())

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        passes, was_off = ctx.saved_tensors
        through = grad * passes
        return through, (grad - through).addcmul_(grad, was_off, value=-1)


@dataclass(frozen=True, slots=True)
class Pointwise(Rule):
    """Any other activation."""

    reads_clean: ClassVar[bool] = True

    function: Callable[[Tensor], Tensor]

    def prepare_clean_input(self, value: Tensor, source: Region | None) -> Value:
        """Return z."""
        return value if source is None else Clean(value, source)

    def graph_layer(self, sources: Regions) -> nn.Module:
        """Return the layer of a graph."""
        return _PointwiseLayer(self, sources)

    def apply(self, changes: Sequence[Change], clean: Value) -> Change:
        """Return f(z + dz) - f(z)."""
        change = changes[0]
        z = at_region(clean, change.region)
        return Change(self.function(z + change.value) - self.function(z), change.region)


class _PointwiseLayer(nn.Module):
    """f(z + dz) - f(z)."""

    def __init__(self, rule: Pointwise, sources: Regions) -> None:
        super().__init__()
        self.function = rule.function
        self.at = clean_reader(sources[0])

    def forward(self, changes: Sequence[Tensor], clean: Tensor) -> Tensor:
        was = self.at(clean)
        difference: Tensor = self.function(was + changes[0]) - self.function(was)
        return difference
