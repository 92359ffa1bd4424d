"""Layers that gather positions: pools, means, a series as one vector."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from edgedistill.attribution.incremental.layers.convolution import Conv
from edgedistill.attribution.incremental.layers.rule import (
    Change,
    Regions,
    Rule,
    Value,
    require_pair,
    require_region,
    require_series,
)
from edgedistill.attribution.incremental.regions import (
    Clean,
    MaskOutside,
    ReadRegion,
    Region,
    SelectPositions,
    expand_to_region,
)

_LOWEST = -1e30  # never wins a pool, and unlike -inf can be subtracted from itself


@dataclass(frozen=True, slots=True)
class MaxPool(Rule):
    """The largest value under a window that slides by `stride`."""

    reads_clean: ClassVar[bool] = True

    kernel: int
    stride: int
    padding: int
    dilation: int
    length: int

    def prepare_clean_input(self, value: Tensor, source: Region | None) -> Value:
        """Return x wherever a changed output looks, where padding never wins, and max(x)."""
        region = require_region(source)
        pooled = functional.max_pool1d(value, self.kernel, self.stride, self.padding, self.dilation)
        seen = Clean(value, self._input_region(region), beyond=-torch.inf)
        return seen, Clean(pooled, require_region(self.region([region])))

    def region(self, sources: Regions) -> Region | None:
        """Return the positions whose pool meets the change."""
        return self._as_conv().region(sources)

    def graph_layer(self, sources: Regions) -> nn.Module:
        """Return the layer of a graph."""
        return _MaxPoolLayer(self, sources)

    def apply(self, changes: Sequence[Change], clean: Value) -> Change:
        """Return max(x + dx) - max(x)."""
        source = changes[0].temporal
        out, seen = require_region(self.region([source])), self._input_region(source)
        x, pooled = require_pair(clean)
        changed = require_series(x).at(seen) + expand_to_region(changes[0].value, source, seen)
        change = self._pool(changed, out.size) - require_series(pooled).at(out)
        return Change(change if out.is_inside else change.where(out.mask(), 0.0), out)

    def _input_region(self, source: Region) -> Region:
        """Return all that the changed outputs look at."""
        out = require_region(self.region([source]))
        seen = (out.size - 1) * self.stride + self.dilation * (self.kernel - 1) + 1
        return Region(out.begin * self.stride - self.padding, seen, source.length)

    def _pool(self, x: Tensor, size: int) -> Tensor:
        last = (size - 1) * self.stride + 1
        taps = [self.dilation * k for k in range(self.kernel)]
        return reduce(torch.maximum, [x[:, :, tap : tap + last : self.stride] for tap in taps])

    def _as_conv(self) -> Conv:
        weight = torch.empty(1, 1, self.kernel)
        return Conv(weight, self.stride, self.padding, self.dilation, 1, self.length)


class _MaxPoolLayer(nn.Module):
    """The change of a sliding maximum."""

    inside: Tensor

    def __init__(self, rule: MaxPool, sources: Regions) -> None:
        super().__init__()
        source, out = require_region(sources[0]), require_region(rule.region(sources))
        size = (out.size - 1) * rule.stride + rule.dilation * (rule.kernel - 1) + 1
        seen = Region(out.begin * rule.stride - rule.padding, size, source.length)
        self.at, self.pick, self.masked = (
            ReadRegion(seen),
            SelectPositions(source, seen),
            MaskOutside(out),
        )
        self.is_inside = seen.is_inside
        self.register_buffer("inside", seen.mask()[:, 0, :, 0])  # (W, L)
        self.settings: dict[str, Any] = {
            "kernel_size": (1, rule.kernel),
            "stride": (1, rule.stride),
            "dilation": (1, rule.dilation),
        }

    def forward(self, changes: Sequence[Tensor], clean: Tensor) -> Tensor:
        was = self.at(clean)
        if not self.is_inside:
            was = torch.where(self.inside, was, _LOWEST)
        now = functional.max_pool2d(was + self.pick(changes[0]), **self.settings)
        masked: Tensor = self.masked(now - functional.max_pool2d(was, **self.settings))
        return masked


class ToVector(Rule):
    """A layer that turns a series into a vector."""

    def region(self, sources: Regions) -> Region | None:
        """Return None: a vector has no positions."""
        del sources
        return None


@dataclass(frozen=True, slots=True)
class Mean(ToVector):
    """The mean over time: from a temporal change to that of a vector."""

    length: int

    def graph_layer(self, sources: Regions) -> nn.Module:
        """Return the layer of a graph."""
        return _MeanLayer(self, sources)

    def apply(self, changes: Sequence[Change], clean: Value) -> Change:
        """Return the sum over the region, divided by T."""
        del clean
        return Change(changes[0].value.sum(dim=2) / self.length)


class _MeanLayer(nn.Module):
    """The mean over time."""

    def __init__(self, rule: Mean, sources: Regions) -> None:
        super().__init__()
        del sources
        self.length = rule.length

    def forward(self, changes: Sequence[Tensor], clean: Tensor | None) -> Tensor:
        del clean
        total: Tensor = changes[0].sum(dim=3)
        return total.transpose(1, 2) / self.length


@dataclass(frozen=True, slots=True)
class GlobalMax(ToVector):
    """The maximum over time: from a temporal change to that of a vector."""

    reads_clean: ClassVar[bool] = True

    length: int

    def prepare_clean_input(self, value: Tensor, source: Region | None) -> Value:
        """Return x everywhere: any step may hold the maximum."""
        return Clean(value, require_region(source).whole())

    def graph_layer(self, sources: Regions) -> nn.Module:
        """Return the layer of a graph."""
        return _GlobalMaxLayer(self, sources)

    def apply(self, changes: Sequence[Change], clean: Value) -> Change:
        """Return max(x + dx) - max(x)."""
        source = changes[0].temporal
        whole = source.whole()
        x = require_series(clean).at(whole)
        dense = expand_to_region(changes[0].value, source, whole)
        return Change((x + dense).amax(dim=2) - x.amax(dim=2))


class _GlobalMaxLayer(nn.Module):
    """The change of the maximum over time; every step is compared."""

    def __init__(self, rule: GlobalMax, sources: Regions) -> None:
        super().__init__()
        del rule
        self.dense = SelectPositions(require_region(sources[0]), require_region(sources[0]).whole())

    def forward(self, changes: Sequence[Tensor], clean: Tensor) -> Tensor:
        was = clean[:, :, None]  # (N, C, 1, T)
        change: Tensor = (was + self.dense(changes[0])).amax(dim=3) - was.amax(dim=3)
        return change.transpose(1, 2)


@dataclass(frozen=True, slots=True)
class Flatten(ToVector):
    """A series (C, T) laid out as one vector of C * T features."""

    length: int

    def graph_layer(self, sources: Regions) -> nn.Module:
        """Return the layer of a graph."""
        return _FlattenLayer(self, sources)

    def apply(self, changes: Sequence[Change], clean: Value) -> Change:
        """Return the change at every position, zero outside its region."""
        del clean
        source = changes[0].temporal
        whole = source.whole()
        dense = expand_to_region(changes[0].value, source, whole)  # (W, N, T, C)
        return Change(dense.transpose(2, 3).flatten(2))


class _FlattenLayer(nn.Module):
    """A series laid out as one vector, zero where nothing changes."""

    def __init__(self, rule: Flatten, sources: Regions) -> None:
        super().__init__()
        del rule
        self.dense = SelectPositions(require_region(sources[0]), require_region(sources[0]).whole())

    def forward(self, changes: Sequence[Tensor], clean: Tensor | None) -> Tensor:
        del clean
        dense: Tensor = self.dense(changes[0])  # (N, C, W, T)
        return dense.transpose(1, 2).flatten(2)
