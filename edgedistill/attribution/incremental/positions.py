"""Constant positions in a graph: where windows read clean values, and where changes lie.

A change is (N, C, W, L): L positions of a region for each of W windows.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from edgedistill.attribution.incremental.regions import Region


class At(nn.Module):
    """Clean values, (N, C, T), at a region: (N, C, W, L), or (N, C, 1, T) if it is the whole.

    Beyond the borders the nearest value stands in: no change is there that would ask for it.
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


class Pick(nn.Module):
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
        found = change.flatten(2).index_select(2, self.index)
        found = found.reshape(-1, change.shape[1], *self.shape)
        return found if self.is_inside else found * self.inside


class Masked(nn.Module):
    """Zeros beyond the borders of a layer, where the network's own padding stands."""

    mask: Tensor

    def __init__(self, region: Region) -> None:
        super().__init__()
        self.is_needed = not region.is_inside
        self.register_buffer("mask", region.mask()[:, 0, :, 0].float())  # (W, L)

    def forward(self, change: Tensor) -> Tensor:
        """Return the change, zero where there is no layer."""
        return change * self.mask if self.is_needed else change
