"""The positions of a layer that windows can change, and clean values read there.

A change is kept as a tensor (W, N, L, C): L positions from a region's begin, for
W windows of N series and C channels. Channels stand last: then a clean value can be
read at every window as a view, and its inner loops are long.

In a graph the positions are constants, and a change is (N, C, W, L): see
`ReadRegion`, `SelectPositions` and `MaskOutside`.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional


@dataclass(frozen=True, slots=True)
class Region:
    """Positions [begin, begin + size) of a layer of `length` positions, for every window.

    A begin may be negative and an end beyond the layer: changes are zero there.
    """

    begin: Tensor  # (W, 1), or (W, N) if every series has its own windows
    size: int  # L
    length: int  # T of the layer

    @property
    def is_inside(self) -> bool:
        """Return whether no window reaches over a border."""
        low, high = int(self.begin.min()), int(self.begin.max())
        return low >= 0 and high + self.size <= self.length

    @property
    def step(self) -> int | None:
        """Return the distance between windows if it is regular and shared by all series."""
        if self.begin.shape[1] != 1:
            return None
        if len(self.begin) == 1:
            return 1
        steps = self.begin[1:, 0] - self.begin[:-1, 0]
        first = int(steps[0])
        return first if first > 0 and bool((steps == first).all()) else None

    def clipped(self) -> Region:
        """Return the whole layer if the region is as large."""
        if self.size < self.length:
            return self
        return self.whole()

    def whole(self) -> Region:
        """Return all positions of the layer, for every window."""
        return Region(torch.zeros_like(self.begin[:, :1]), self.length, self.length)

    def windows(self, first: int, last: int) -> Region:
        """Return the region of windows [first, last)."""
        return replace(self, begin=self.begin[first:last])

    def positions(self) -> Tensor:
        """Return every position, (W, n, L)."""
        steps = torch.arange(self.size, device=self.begin.device)
        return self.begin[..., None] + steps

    def mask(self) -> Tensor:
        """Return whether each position lies in the layer, (W, n, L, 1)."""
        positions = self.positions()
        return ((positions >= 0) & (positions < self.length))[..., None]


def union(regions: Sequence[Region]) -> Region:
    """Return the smallest region that holds all of the same layer."""
    begins: tuple[Tensor, ...] = torch.broadcast_tensors(  # type: ignore[no-untyped-call]
        *(region.begin for region in regions)
    )
    begin = torch.stack(begins).amin(dim=0)
    ends = torch.stack([b + r.size for b, r in zip(begins, regions, strict=True)]).amax(dim=0)
    return Region(begin, int((ends - begin).max()), regions[0].length).clipped()


def expand_to_region(change: Tensor, region: Region, target: Region) -> Tensor:
    """Return a change of one region as that of a region which holds it."""
    first = _offset(region, target)
    if first is None:
        return gather_positions(change, region.begin, target.positions())
    if target.size == region.size:
        return change
    return functional.pad(change, (0, 0, first, target.size - region.size - first))


def scatter_into(change: Tensor, region: Region, target: Region, out: Tensor) -> None:
    """Write a change of one region into zeros, (W, N, L', C), of a region which holds it."""
    first = _offset(region, target)
    if first is None:
        out.copy_(gather_positions(change, region.begin, target.positions()))
    else:
        out[:, :, first : first + region.size] = change


def _offset(region: Region, target: Region) -> int | None:
    """Return where a region begins in one that holds it, if that is the same for all windows."""
    offset = region.begin - target.begin  # (W, n)
    first = int(offset.reshape(-1)[0])
    same = bool((offset == first).all()) and 0 <= first <= target.size - region.size
    return first if same else None


def gather_positions(change: Tensor, begin: Tensor, positions: Tensor) -> Tensor:
    """Return a change at other positions; zero where it has none.

    Args:
        change: (W, N, L, C).
        begin: position of its first entry, (W, n).
        positions: (W, n, L').

    Returns:
        (W, N, L', C).
    """
    windows, samples, size, channels = change.shape
    index = positions - begin[..., None]
    inside = (index >= 0) & (index < size)
    index = index.clamp(0, size - 1)[..., None].expand(windows, samples, -1, channels)
    return change.gather(2, index) * inside[..., None]


class Clean:
    """The value of a layer for the unperturbed series, to be read at any region."""

    def __init__(self, value: Tensor, region: Region, *, beyond: float = 0.0) -> None:
        """Keep a value (N, C, T), with `beyond` for the parts of all windows beyond its borders."""
        self._before = max(0, -int(region.begin.min()))
        after = max(0, int(region.begin.max()) + region.size - region.length)
        samples, channels, length = value.shape
        self._value = value.new_full((samples, self._before + length + after, channels), beyond)
        self._value[:, self._before : self._before + length] = value.permute(0, 2, 1)

    def mapped(self, function: Callable[[Tensor], Tensor]) -> Clean:
        """Return another value at the same positions."""
        other = copy.copy(self)
        other._value = function(self._value)
        return other

    def at(self, region: Region) -> Tensor:
        """Return the value at a region, (W, N, L, C)."""
        step = region.step
        if step is not None:
            first = int(region.begin[0, 0]) + self._before
            span = step * (len(region.begin) - 1) + region.size
            view = self._value[:, first : first + span].unfold(1, region.size, step)
            return view.permute(1, 0, 3, 2)  # (N, W, C, L) -> (W, N, L, C); nothing is copied
        positions = region.positions() + self._before  # (W, n, L)
        if positions.shape[1] == 1:
            return self._value[:, positions[:, 0]].transpose(0, 1)
        samples, length, channels = self._value.shape
        own = length * torch.arange(samples, device=positions.device)[:, None]
        rows = self._value.reshape(-1, channels)  # torch takes rows faster than it indexes
        taken = rows.index_select(0, (own + positions).reshape(-1))
        return taken.reshape(*positions.shape, channels)


class ReadRegion(nn.Module):
    """Clean values, (N, C, T), at a region: (N, C, W, L), or (N, C, 1, T) if it is the whole.

    Beyond the borders it is the nearest value: no change there reads it.
    """

    index: Tensor

    def __init__(self, region: Region) -> None:
        super().__init__()
        positions = region.positions()[:, 0]  # (W, L)
        self.shape = tuple(positions.shape)
        self.is_whole = region.size == region.length and not bool(region.begin.any())
        self.register_buffer("index", positions.clamp(0, region.length - 1).flatten())

    def forward(self, value: Tensor) -> Tensor:
        """Return the values at every window."""
        if self.is_whole:
            return value[:, :, None]
        # Along the last axis runtimes gather number by number; here whole rows of channels.
        rows = value.transpose(1, 2).index_select(1, self.index).transpose(1, 2)
        return rows.reshape(-1, value.shape[1], *self.shape)


class SelectPositions(nn.Module):
    """A change, (N, C, W, L), at other positions, (N, C, W, L'); zero where it has none."""

    index: Tensor
    inside: Tensor

    def __init__(self, source: Region, target: Region) -> None:
        super().__init__()
        offset = target.positions()[:, 0] - source.begin  # (W, L')
        self.shape = tuple(offset.shape)
        inside = (offset >= 0) & (offset < source.size)
        first = int(offset[0, 0])
        after = first + target.size - source.size
        # The same place in every window, and nothing is cut off: zeros around it will do.
        self.zeros = (-first, after) if bool((offset[:, 0] == first).all()) else (-1, -1)
        rows = torch.arange(len(offset))[:, None] * source.size
        self.register_buffer("index", (rows + offset.clamp(0, source.size - 1)).flatten())
        self.register_buffer("inside", inside.float())
        self.is_inside = bool(inside.all())

    def forward(self, change: Tensor) -> Tensor:
        """Return the change at every window's positions."""
        if min(self.zeros) >= 0:
            return functional.pad(change, self.zeros) if any(self.zeros) else change
        picked = change.flatten(2).index_select(2, self.index)
        picked = picked.reshape(-1, change.shape[1], *self.shape)
        return picked if self.is_inside else picked * self.inside


class MaskOutside(nn.Module):
    """Zeros beyond the borders of a layer, where the network's own padding stands."""

    mask: Tensor

    def __init__(self, region: Region) -> None:
        super().__init__()
        self.is_needed = not region.is_inside
        self.register_buffer("mask", region.mask()[:, 0, :, 0].float())  # (W, L)

    def forward(self, change: Tensor) -> Tensor:
        """Return the change, zero where there is no layer."""
        return change * self.mask if self.is_needed else change
