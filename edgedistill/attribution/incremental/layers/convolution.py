"""Convolutions over time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

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
    MaskOutside,
    Region,
    SelectPositions,
    expand_to_region,
)


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
    def kernel_span(self) -> int:
        """Return the steps from the first to the last tap."""
        return self.dilation * (self.weight.shape[2] - 1)

    def scaled(self, factor: Tensor | float) -> Conv:
        """Return the convolution with a factor for each of its channels, or one for all."""
        scale = factor[:, None, None] if isinstance(factor, Tensor) else factor
        return replace(self, weight=self.weight * scale)

    def to_channels_last(self) -> Conv:
        """Return the weight as channels-last convolutions read it, or each call would copy it."""
        return replace(self, weight=self.weight.permute(0, 2, 1).contiguous().permute(0, 2, 1))

    def region(self, sources: Regions) -> Region | None:
        """Return the positions whose taps meet the change."""
        source = require_region(sources[0])
        first = source.begin + self.padding - self.kernel_span
        begin = -torch.div(-first, self.stride, rounding_mode="floor")
        size = (source.size - 1 + self.kernel_span) // self.stride + 1
        return Region(begin, size, self.length).clipped()

    def macs(self, source: Region | None) -> float:
        """Return the multiply-accumulates a window and series."""
        return float(self.weight.numel() * require_region(self.region([source])).size)

    def full_macs(self) -> float:
        """Return the multiply-accumulates of a full run on one series."""
        return float(self.weight.numel() * self.length)

    def graph_layer(self, sources: Regions) -> nn.Module:
        """Return the layer of a graph."""
        return _ConvolutionLayer(self, sources)

    def apply(self, changes: Sequence[Change], clean: Value) -> Change:
        """Return the convolved change."""
        del clean
        change, source = changes[0].value, changes[0].temporal
        out = require_region(self.region([source]))
        natural = self.stride == 1 and source.size + self.kernel_span < self.length  # not the whole
        if natural and source.size == self.dilation == self.groups == 1:
            result = self._scatter(change)
        elif natural:
            result = self._convolve(change, self.kernel_span)
        else:  # the positions that the outputs see, whatever stride and borders
            size = (out.size - 1) * self.stride + self.kernel_span + 1
            seen = Region(out.begin * self.stride - self.padding, size, source.length)
            result = self._convolve(expand_to_region(change, source, seen), 0)
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


class _ConvolutionLayer(nn.Module):
    """A convolution without its bias."""

    weight: Tensor

    def __init__(self, rule: Conv, sources: Regions) -> None:
        super().__init__()
        source, out = require_region(sources[0]), require_region(rule.region(sources))
        first = out.begin * rule.stride - rule.padding  # what the first output sees
        natural = bool((first == source.begin - rule.kernel_span).all())
        natural &= rule.stride == 1 and out.size == source.size + rule.kernel_span
        seen = Region(first, (out.size - 1) * rule.stride + rule.kernel_span + 1, source.length)
        self.pick = nn.Identity() if natural else SelectPositions(source, seen)
        self.settings: dict[str, Any] = {
            "stride": (1, rule.stride),
            "padding": (0, rule.kernel_span if natural else 0),
            "dilation": (1, rule.dilation),
            "groups": rule.groups,
        }
        self.register_buffer("weight", rule.weight.detach()[:, :, None])
        self.masked = MaskOutside(out) if rule.bounded else nn.Identity()

    def forward(self, changes: Sequence[Tensor], clean: Tensor | None) -> Tensor:
        del clean
        found = functional.conv2d(self.pick(changes[0]), self.weight, **self.settings)
        masked: Tensor = self.masked(found)
        return masked
