"""LITE: fixed hand-crafted filters beside learned ones, then depthwise-separable convolutions.

Source: Ismail-Fawaz et al. 2023, "LITE: Light Inception with boosTing tEchniques for time series
classification", DSAA 2023 (the filters: Ismail-Fawaz et al. 2022, "Deep learning for time series
classification using new hand-crafted convolution filters"). At C=1 everything but the
head trains 9,814 parameters, the published number; with the head of K=2 classes there are 9,880.

Two choices are ours and change no output: the filters that detect a decrease are the negated ones
that detect an increase, so one convolution serves both; and all filters share one kernel length,
padded with zeros, so that a board runs one convolution in place of seventeen.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from edgedistill.models.families import SameConv1d

_KERNELS = (40, 20, 10)  # of the learned convolutions side by side
_SEPARABLE_KERNEL = 20  # of the first depthwise-separable layer; each further one has half of it
_SHORTEST_KERNEL = 3
_TREND_KERNELS = (2, 4, 8, 16, 32, 64)
_PEAK_KERNELS = (6, 12, 24, 48, 96)
_LONGEST = max(_TREND_KERNELS + _PEAK_KERNELS)


class LITE(nn.Module):
    """Map series (N, C, T) to logits (N, K) with `width` filters a layer.

    `depth` counts the depthwise-separable layers; their dilations are 2, 4, 8 and so on.
    """

    def __init__(self, *, channels: int, classes: int, width: int, depth: int) -> None:
        super().__init__()
        self.fixed = HandCraftedFilters()
        self.learned = nn.ModuleList(SameConv1d(channels, width, k, bias=False) for k in _KERNELS)
        features = len(_KERNELS) * width + HandCraftedFilters.outputs
        self.norm = nn.BatchNorm1d(features)
        self.activation = nn.ReLU()
        layers: list[nn.Module] = []
        for index in range(depth):
            kernel = max(_SHORTEST_KERNEL, _SEPARABLE_KERNEL // 2**index)
            layers.append(_separable(features, width, kernel, dilation=2 ** (index + 1)))
            features = width
        self.layers = nn.Sequential(*layers)
        self.head = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits, (N, K), of series, (N, C, T)."""
        parts = [convolution(x) for convolution in self.learned]
        first = self.activation(self.norm(torch.cat([*parts, self.fixed(x)], dim=1)))
        logits: Tensor = self.head(self.layers(first).mean(dim=2))
        return logits


class HandCraftedFilters(nn.Module):
    """Constant filters: six for an increase, six for a decrease, five for a peak.

    Each is applied to the sum of the channels, (N, C, T) to (N, 17, T). The weights are a buffer
    that is rebuilt, not stored: they are no parameters, and no checkpoint can change them.
    """

    outputs = 2 * len(_TREND_KERNELS) + len(_PEAK_KERNELS)
    weight: Tensor

    def __init__(self) -> None:
        super().__init__()
        filters = [_trend(k) for k in _TREND_KERNELS] + [_peak(k) for k in _PEAK_KERNELS]
        stacked = torch.stack([_centered(f) for f in filters])
        self.register_buffer("weight", stacked.unsqueeze(1), persistent=False)  # (11, 1, 96)

    def forward(self, x: Tensor) -> Tensor:
        total = x.sum(dim=1, keepdim=True)
        before = (_LONGEST - 1) // 2
        padded = functional.pad(total, (before, _LONGEST - 1 - before))
        filtered = functional.conv1d(padded, self.weight)
        trends = filtered[:, : len(_TREND_KERNELS)]
        peaks = filtered[:, len(_TREND_KERNELS) :]
        return functional.relu(torch.cat([trends, -trends, peaks], dim=1))


def _separable(channels: int, filters: int, kernel: int, *, dilation: int) -> nn.Sequential:
    return nn.Sequential(
        SameConv1d(channels, channels, kernel, dilation=dilation, groups=channels, bias=False),
        nn.Conv1d(channels, filters, 1, bias=False),
        nn.BatchNorm1d(filters),
        nn.ReLU(),
    )


def _trend(kernel: int) -> Tensor:
    """Return -1, +1, -1, +1 ...: positive where the series rises from one step to the next."""
    signs = torch.ones(kernel)
    signs[::2] = -1.0
    return signs


def _peak(kernel: int) -> Tensor:
    """Return three bumps of equal length, weighted -1, +2, -1: positive where the series peaks.

    A bump rises as (i / q)^2 for i = 1..q and falls back the same way.
    """
    quarter = kernel // 6  # half a bump
    rise = (torch.arange(1, quarter + 1) / quarter) ** 2
    bump = torch.cat([rise, rise.flip(0)])
    return torch.cat([-bump, 2 * bump, -bump])


def _centered(values: Tensor) -> Tensor:
    """Return the filter in a kernel of the longest length, at the place 'same' padding gives it."""
    kernel = len(values)
    start = (_LONGEST - 1) // 2 - (kernel - 1) // 2
    return functional.pad(values, (start, _LONGEST - kernel - start))
