"""Linear layers: factors, choices of channels, dense layers, sums, layers side by side.

Those that change nothing are among them; convolutions have a module of their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

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
from edgedistill.attribution.incremental.regions import (
    Region,
    SelectPositions,
    expand_to_region,
    scatter_into,
    union,
)


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


@dataclass(frozen=True, slots=True)
class Join(Rule):
    """Channels of several layers side by side; zero where one of them is."""

    def region(self, sources: Regions) -> Region | None:
        """Return the smallest region that holds all."""
        return None if sources[0] is None else union([require_region(source) for source in sources])

    def graph_layer(self, sources: Regions) -> nn.Module:
        """Return the layer of a graph."""
        return _JoinLayer(self, sources)

    def apply(self, changes: Sequence[Change], clean: Value) -> Change:
        """Return the changes side by side."""
        del clean
        if changes[0].region is None:
            return Change(torch.cat([change.value for change in changes], dim=-1))
        out = union([change.temporal for change in changes])
        windows, samples = changes[0].value.shape[:2]
        ends = list(accumulate(change.value.shape[-1] for change in changes))
        joined = changes[0].value.new_zeros(windows, samples, out.size, ends[-1])
        for change, begin, end in zip(changes, [0, *ends], ends, strict=False):
            scatter_into(change.value, change.temporal, out, joined[..., begin:end])
        return Change(joined, out)


@dataclass(frozen=True, slots=True)
class Sum(Rule):
    """Several layers added, or subtracted."""

    signs: tuple[float, ...]

    def region(self, sources: Regions) -> Region | None:
        """Return the smallest region that holds all."""
        return None if sources[0] is None else union([require_region(source) for source in sources])

    def graph_layer(self, sources: Regions) -> nn.Module:
        """Return the layer of a graph."""
        return _JoinLayer(self, sources)

    def apply(self, changes: Sequence[Change], clean: Value) -> Change:
        """Return the sum of the changes."""
        del clean
        values, out = _aligned(changes)
        total = values[0] * self.signs[0] if self.signs[0] != 1 else values[0]
        for value, sign in zip(values[1:], self.signs[1:], strict=True):
            total = total + value if sign == 1 else total + sign * value
        return Change(total, out)


class _JoinLayer(nn.Module):
    """Several layers side by side, or added."""

    def __init__(self, rule: Join | Sum, sources: Regions) -> None:
        super().__init__()
        self.signs = rule.signs if isinstance(rule, Sum) else None
        found = [source for source in sources if source is not None]
        out = union(found) if found else None
        self.places = nn.ModuleList(
            nn.Identity() if source is None or out is None else SelectPositions(source, out)
            for source in sources
        )
        self.axis = 1 if found else 2

    def forward(self, changes: Sequence[Tensor], clean: Tensor | None) -> Tensor:
        del clean
        placed: list[Tensor] = [
            place(change) for place, change in zip(self.places, changes, strict=True)
        ]
        if self.signs is None:
            return torch.cat(placed, dim=self.axis)
        total = placed[0] if self.signs[0] == 1 else -placed[0]
        for change, sign in zip(placed[1:], self.signs[1:], strict=True):
            total = total + change if sign == 1 else total - change
        return total


def _aligned(changes: Sequence[Change]) -> tuple[list[Tensor], Region | None]:
    if changes[0].region is None:
        return [change.value for change in changes], None
    out = union([change.temporal for change in changes])
    return [expand_to_region(change.value, change.temporal, out) for change in changes], out
