"""Linear layers: factors, choices of channels, dense layers, and what changes nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from edgedistill.attribution.incremental.layers.rule import (
    Change,
    Regions,
    Rule,
    Value,
    require_region,
)
from edgedistill.attribution.incremental.regions import Region


@dataclass(frozen=True, slots=True)
class Scale(Rule):
    """A factor a channel: batch norm without its shift, or a constant."""

    factor: Tensor | float  # (C,) or one

    def graph_layer(self, sources: Regions) -> nn.Module:
        """Return the layer of a graph."""
        return _ScaleLayer(self, sources)

    def apply(self, changes: Sequence[Change], clean: Value) -> Change:
        """Return the scaled change."""
        del clean
        return Change(changes[0].value * self.factor, changes[0].region)


class _ScaleLayer(nn.Module):
    """A factor a channel, or one."""

    factor: Tensor

    def __init__(self, rule: Scale, sources: Regions) -> None:
        super().__init__()
        factor = torch.as_tensor(rule.factor, dtype=torch.float32).detach()
        wide = factor.ndim == 1 and sources[0] is not None
        self.register_buffer("factor", factor[:, None, None] if wide else factor)

    def forward(self, changes: Sequence[Tensor], clean: Tensor | None) -> Tensor:
        del clean
        return changes[0] * self.factor


@dataclass(frozen=True, slots=True)
class Channels(Rule):
    """Some channels, as a slice, or their sum."""

    part: slice | None  # None: the sum of all, kept as one channel

    def graph_layer(self, sources: Regions) -> nn.Module:
        """Return the layer of a graph."""
        return _ChannelsLayer(self, sources)

    def apply(self, changes: Sequence[Change], clean: Value) -> Change:
        """Return those channels of the change."""
        del clean
        value = changes[0].value
        chosen = value.sum(dim=-1, keepdim=True) if self.part is None else value[..., self.part]
        return Change(chosen, changes[0].region)


class _ChannelsLayer(nn.Module):
    """Some channels, or the sum of all."""

    def __init__(self, rule: Channels, sources: Regions) -> None:
        super().__init__()
        self.part = rule.part
        self.axis = 2 if sources[0] is None else 1

    def forward(self, changes: Sequence[Tensor], clean: Tensor | None) -> Tensor:
        del clean
        if self.part is None:
            total: Tensor = changes[0].sum(dim=self.axis, keepdim=True)
            return total
        return changes[0][:, self.part] if self.axis == 1 else changes[0][..., self.part]


@dataclass(frozen=True, slots=True)
class Dense(Rule):
    """A linear layer on a vector."""

    weight: Tensor  # (F', F)

    def macs(self, source: Region | None) -> float:
        """Return the multiply-accumulates a window and series."""
        del source
        return float(self.weight.numel())

    def full_macs(self) -> float:
        """Return the multiply-accumulates of a full run on one series."""
        return float(self.weight.numel())

    def graph_layer(self, sources: Regions) -> nn.Module:
        """Return the layer of a graph."""
        return _DenseLayer(self, sources)

    def apply(self, changes: Sequence[Change], clean: Value) -> Change:
        """Return the mapped change."""
        del clean
        return Change(functional.linear(changes[0].value, self.weight))


class _DenseLayer(nn.Module):
    """A linear layer without its bias."""

    weight: Tensor

    def __init__(self, rule: Dense, sources: Regions) -> None:
        super().__init__()
        del sources
        self.register_buffer("weight", rule.weight.detach())

    def forward(self, changes: Sequence[Tensor], clean: Tensor | None) -> Tensor:
        del clean
        return functional.linear(changes[0], self.weight)


@dataclass(frozen=True, slots=True)
class Same(Rule):
    """A layer that changes nothing here: dropout in eval mode, an identity, a squeezed axis."""

    def graph_layer(self, sources: Regions) -> nn.Module:
        """Return the layer of a graph."""
        return _IdentityLayer(self, sources)

    def apply(self, changes: Sequence[Change], clean: Value) -> Change:
        """Return the change."""
        del clean
        return changes[0]


@dataclass(frozen=True, slots=True)
class Shift(Rule):
    """Zeros before and after a series."""

    before: int
    length: int

    def region(self, sources: Regions) -> Region | None:
        """Return the same positions, counted from the new first."""
        source = require_region(sources[0])
        return Region(source.begin + self.before, source.size, self.length)

    def graph_layer(self, sources: Regions) -> nn.Module:
        """Return the layer of a graph."""
        return _IdentityLayer(self, sources)

    def apply(self, changes: Sequence[Change], clean: Value) -> Change:
        """Return the change, moved."""
        del clean
        return Change(changes[0].value, self.region([changes[0].region]))


class _IdentityLayer(nn.Module):
    """The change as it is: another name, or other positions of the same numbers."""

    def __init__(self, rule: Same | Shift, sources: Regions) -> None:
        super().__init__()
        del rule, sources

    def forward(self, changes: Sequence[Tensor], clean: Tensor | None) -> Tensor:
        del clean
        return changes[0]
