"""How each kind of layer passes a change on, exactly.

A linear layer maps a change as it maps a value, without its bias. Any other layer f
gives f(z + dz) - f(z), for which it needs the clean z. Nothing is computed where
nothing changes, and two large logits are never subtracted.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

import torch
from torch import Tensor
from torch.nn import functional

from edgedistill.attribution.incremental.rectified import rectified
from edgedistill.attribution.incremental.regions import Clean, Region, place, put, union

CleanInput = Clean | Tensor  # what a layer sees unperturbed: temporal, or a vector
Value = (
    CleanInput | tuple[CleanInput, CleanInput] | None
)  # what a rule reads of it; None where it need not


@dataclass(frozen=True, slots=True)
class Change:
    """How a value differs for each window: temporal (W, N, L, C) in a region, or (W, N, F)."""

    value: Tensor
    region: Region | None = None

    @property
    def temporal(self) -> Region:
        """Return the region of a temporal change."""
        if self.region is None:
            raise TypeError("This change is that of a vector.")
        return self.region


class Rule:
    """A kind of layer."""

    def region(self, sources: Sequence[Region | None]) -> Region | None:
        """Return what the layer can change; None for a vector."""
        return sources[0]

    def clean(self, value: Tensor, source: Region | None) -> Value:
        """Return what `apply` reads of the clean input, (N, C, T) or (N, F), for all windows."""
        del value, source
        return None

    def held_numbers(self, source: Region | None) -> int:
        """Return the numbers held a window and series, besides the change itself."""
        del source
        return 0

    def macs(self, source: Region | None) -> float:
        """Return the multiply-accumulates a window and series."""
        del source  # most layers multiply next to nothing
        return 0.0

    def full_macs(self) -> float:
        """Return those of a whole series."""
        return 0.0

    @abstractmethod
    def apply(self, changes: Sequence[Change], clean: Value) -> Change:
        """Return the change of the layer's output."""


@dataclass(frozen=True, slots=True)
class Conv(Rule):
    """A 1-D convolution."""

    weight: Tensor  # (C', C / groups, k)
    stride: int
    padding: int  # zeros on the left; those on the right are in `length`
    dilation: int
    groups: int
    length: int  # T of the output
    bounded: bool = True  # False: what comes next lets nothing through beyond the borders

    @property
    def reach(self) -> int:
        """Return the steps from the first to the last tap."""
        return self.dilation * (self.weight.shape[2] - 1)

    def scaled(self, factor: Tensor | float) -> Conv:
        """Return the convolution with a factor for each of its channels, or one for all."""
        scale = factor[:, None, None] if isinstance(factor, Tensor) else factor
        return replace(self, weight=self.weight * scale)

    def laid_out(self) -> Conv:
        """Return the weight as channels-last convolutions read it, or each call would copy it."""
        return replace(self, weight=self.weight.permute(0, 2, 1).contiguous().permute(0, 2, 1))

    def region(self, sources: Sequence[Region | None]) -> Region | None:
        """Return the positions whose taps meet the change."""
        source = require_region(sources[0])
        first = source.begin + self.padding - self.reach
        begin = -torch.div(-first, self.stride, rounding_mode="floor")
        size = (source.size - 1 + self.reach) // self.stride + 1
        return Region(begin, size, self.length).clipped()

    def macs(self, source: Region | None) -> float:
        """Return the multiply-accumulates a window and series."""
        return float(self.weight.numel() * require_region(self.region([source])).size)

    def full_macs(self) -> float:
        """Return those of a whole series."""
        return float(self.weight.numel() * self.length)

    def apply(self, changes: Sequence[Change], clean: Value) -> Change:
        """Return the convolved change."""
        del clean
        change, source = changes[0].value, changes[0].temporal
        out = require_region(self.region([source]))
        natural = self.stride == 1 and source.size + self.reach < self.length  # not the whole
        if natural and source.size == self.dilation == self.groups == 1:
            result = self._scatter(change)
        elif natural:
            result = self._convolve(change, self.reach)
        else:  # the positions that the outputs see, whatever stride and borders
            size = (out.size - 1) * self.stride + self.reach + 1
            seen = Region(out.begin * self.stride - self.padding, size, source.length)
            result = self._convolve(place(change, source, seen), 0)
        if self.bounded and not out.is_inside:
            result = result * out.mask()
        return Change(result, out)

    def _scatter(self, change: Tensor) -> Tensor:
        """Convolve (W, N, 1, C): one product, since every tap meets the one step elsewhere."""
        outputs, inputs, taps = self.weight.shape
        spread = self.weight.flip(2).permute(1, 2, 0).reshape(inputs, taps * outputs)
        windows, samples = change.shape[:2]
        return (change.reshape(-1, inputs) @ spread).reshape(windows, samples, taps, outputs)

    def _convolve(self, change: Tensor, padding: int) -> Tensor:
        """Convolve (W, N, L, C) along L; two dimensions, because only they come channels-last."""
        windows, samples, _, _ = change.shape
        image = change.flatten(0, 1)[:, None].permute(0, 3, 1, 2)  # (W * N, C, 1, L)
        result = functional.conv2d(
            image,
            self.weight[:, :, None],
            stride=(1, self.stride),
            padding=(0, padding),
            dilation=(1, self.dilation),
            groups=self.groups,
        )
        series = result.permute(0, 2, 3, 1)[:, 0]  # (W * N, L', C')
        return series.reshape(windows, samples, *series.shape[1:])


@dataclass(frozen=True, slots=True)
class Scale(Rule):
    """A factor a channel: batch norm without its shift, or a constant."""

    factor: Tensor | float  # (C,) or one

    def apply(self, changes: Sequence[Change], clean: Value) -> Change:
        """Return the scaled change."""
        del clean
        return Change(changes[0].value * self.factor, changes[0].region)


@dataclass(frozen=True, slots=True)
class Relu(Rule):
    """The positive part."""

    def clean(self, value: Tensor, source: Region | None) -> Value:
        """Return -z and its positive part; beyond the borders nothing is larger."""
        if source is None:
            return -value, (-value).relu()
        below = Clean(-value, source, beyond=torch.finfo(value.dtype).max)
        return below, below.mapped(torch.relu)

    def apply(self, changes: Sequence[Change], clean: Value) -> Change:
        """Return max(z + dz, 0) - max(z, 0), as max(dz, -z) - max(-z, 0): a pass less."""
        change = changes[0]
        seen, seen_floor = require_pair(clean)
        below = _at_region(seen, change.region)
        if torch.is_grad_enabled() and (change.value.requires_grad or below.requires_grad):
            return Change(rectified(change.value, below), change.region)
        floor = _at_region(seen_floor, change.region)
        return Change(torch.maximum(change.value, below).sub_(floor), change.region)


@dataclass(frozen=True, slots=True)
class Pointwise(Rule):
    """Any other activation."""

    function: Callable[[Tensor], Tensor]

    def clean(self, value: Tensor, source: Region | None) -> Value:
        """Return z."""
        return value if source is None else Clean(value, source)

    def apply(self, changes: Sequence[Change], clean: Value) -> Change:
        """Return f(z + dz) - f(z)."""
        change = changes[0]
        z = _at_region(clean, change.region)
        return Change(self.function(z + change.value) - self.function(z), change.region)


@dataclass(frozen=True, slots=True)
class Shift(Rule):
    """Zeros before and after a series."""

    before: int
    length: int

    def region(self, sources: Sequence[Region | None]) -> Region | None:
        """Return the same positions, counted from the new first."""
        source = require_region(sources[0])
        return Region(source.begin + self.before, source.size, self.length)

    def apply(self, changes: Sequence[Change], clean: Value) -> Change:
        """Return the change, moved."""
        del clean
        return Change(changes[0].value, self.region([changes[0].region]))


@dataclass(frozen=True, slots=True)
class Join(Rule):
    """Channels of several layers side by side; zero where one of them is."""

    def region(self, sources: Sequence[Region | None]) -> Region | None:
        """Return what holds all regions."""
        return None if sources[0] is None else union([require_region(source) for source in sources])

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
            put(change.value, change.temporal, out, joined[..., begin:end])
        return Change(joined, out)


@dataclass(frozen=True, slots=True)
class Sum(Rule):
    """Several layers added, or subtracted."""

    signs: tuple[float, ...]

    def region(self, sources: Sequence[Region | None]) -> Region | None:
        """Return what holds all regions."""
        return None if sources[0] is None else union([require_region(source) for source in sources])

    def apply(self, changes: Sequence[Change], clean: Value) -> Change:
        """Return the sum of the changes."""
        del clean
        values, out = _aligned(changes)
        total = values[0] * self.signs[0] if self.signs[0] != 1 else values[0]
        for value, sign in zip(values[1:], self.signs[1:], strict=True):
            total = total + value if sign == 1 else total + sign * value
        return Change(total, out)


@dataclass(frozen=True, slots=True)
class Channels(Rule):
    """Some channels, as a slice, or their sum."""

    part: slice | None  # None: the sum of all, kept as one channel

    def apply(self, changes: Sequence[Change], clean: Value) -> Change:
        """Return those channels of the change."""
        del clean
        value = changes[0].value
        chosen = value.sum(dim=-1, keepdim=True) if self.part is None else value[..., self.part]
        return Change(chosen, changes[0].region)


@dataclass(frozen=True, slots=True)
class Dense(Rule):
    """A linear layer on a vector."""

    weight: Tensor  # (F', F)

    def macs(self, source: Region | None) -> float:
        """Return the multiply-accumulates a window and series."""
        del source
        return float(self.weight.numel())

    def full_macs(self) -> float:
        """Return those of a whole series."""
        return float(self.weight.numel())

    def apply(self, changes: Sequence[Change], clean: Value) -> Change:
        """Return the mapped change."""
        del clean
        return Change(functional.linear(changes[0].value, self.weight))


@dataclass(frozen=True, slots=True)
class Same(Rule):
    """A layer that changes nothing here: dropout in eval mode, an identity, a squeezed axis."""

    def apply(self, changes: Sequence[Change], clean: Value) -> Change:
        """Return the change."""
        del clean
        return changes[0]


def _aligned(changes: Sequence[Change]) -> tuple[list[Tensor], Region | None]:
    if changes[0].region is None:
        return [change.value for change in changes], None
    out = union([change.temporal for change in changes])
    return [place(change.value, change.temporal, out) for change in changes], out


def require_region(region: Region | None) -> Region:
    """Return the region of a series; a vector has none."""
    if region is None:
        raise TypeError("This layer needs series, and got a vector.")
    return region


def require_series(clean: Value) -> Clean:
    """Return a clean series; the layer cannot do without."""
    if not isinstance(clean, Clean):
        raise TypeError("This layer needs its clean input, a series.")
    return clean


def _at_region(clean: Value, region: Region | None) -> Tensor:
    """Return a clean value where a change has its region; a vector is everywhere."""
    return require_vector(clean) if region is None else require_series(clean).at(region)


def require_vector(clean: Value) -> Tensor:
    """Return a clean vector; the layer cannot do without."""
    if not isinstance(clean, Tensor):
        raise TypeError("This layer needs its clean input, a vector.")
    return clean


def require_pair(clean: Value) -> tuple[CleanInput, CleanInput]:
    """Return both readings of a clean input; the layer cannot do without."""
    if not isinstance(clean, tuple):
        raise TypeError("This layer needs its clean input, read in two ways.")
    return clean
