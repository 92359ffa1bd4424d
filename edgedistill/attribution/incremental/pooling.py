"""How layers that gather positions pass a change on: pools, means, a series as one vector."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

import torch
from torch import Tensor
from torch.nn import functional

from edgedistill.attribution.incremental.regions import Clean, Region, place
from edgedistill.attribution.incremental.rules import (
    Change,
    Conv,
    Rule,
    Value,
    require_pair,
    require_region,
    require_series,
)


@dataclass(frozen=True, slots=True)
class MaxPool(Rule):
    """The largest value under a window that slides by `stride`."""

    kernel: int
    stride: int
    padding: int
    dilation: int
    length: int

    def clean(self, value: Tensor, source: Region | None) -> Value:
        """Return x wherever a changed output looks, where padding never wins, and max(x)."""
        region = require_region(source)
        pooled = functional.max_pool1d(value, self.kernel, self.stride, self.padding, self.dilation)
        seen = Clean(value, self._input_region(region), beyond=-torch.inf)
        return seen, Clean(pooled, require_region(self.region([region])))

    def region(self, sources: Sequence[Region | None]) -> Region | None:
        """Return the positions whose pool meets the change."""
        return self._as_conv().region(sources)

    def apply(self, changes: Sequence[Change], clean: Value) -> Change:
        """Return max(x + dx) - max(x)."""
        source = changes[0].temporal
        out, seen = require_region(self.region([source])), self._input_region(source)
        x, pooled = require_pair(clean)
        changed = require_series(x).at(seen) + place(changes[0].value, source, seen)
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


class ToVector(Rule):
    """A layer that turns a series into a vector."""

    def region(self, sources: Sequence[Region | None]) -> Region | None:
        """Return None: a vector has no positions."""
        del sources
        return None


@dataclass(frozen=True, slots=True)
class Mean(ToVector):
    """The mean over time: from a temporal change to that of a vector."""

    length: int

    def apply(self, changes: Sequence[Change], clean: Value) -> Change:
        """Return the sum over the region, divided by T."""
        del clean
        return Change(changes[0].value.sum(dim=2) / self.length)


@dataclass(frozen=True, slots=True)
class GlobalMax(ToVector):
    """The maximum over time: from a temporal change to that of a vector."""

    length: int

    def clean(self, value: Tensor, source: Region | None) -> Value:
        """Return x everywhere: any step may hold the maximum."""
        return Clean(value, require_region(source).whole())

    def apply(self, changes: Sequence[Change], clean: Value) -> Change:
        """Return max(x + dx) - max(x)."""
        source = changes[0].temporal
        whole = source.whole()
        x = require_series(clean).at(whole)
        dense = place(changes[0].value, source, whole)
        return Change((x + dense).amax(dim=2) - x.amax(dim=2))


@dataclass(frozen=True, slots=True)
class Flatten(ToVector):
    """A series (C, T) laid out as one vector of C * T features."""

    length: int

    def apply(self, changes: Sequence[Change], clean: Value) -> Change:
        """Return the change at every position, zero outside its region."""
        del clean
        source = changes[0].temporal
        whole = source.whole()
        dense = place(changes[0].value, source, whole)  # (W, N, T, C)
        return Change(dense.transpose(2, 3).flatten(2))
