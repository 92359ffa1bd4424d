"""One network of InceptionTime: parallel convolutions of three lengths behind a bottleneck.

Source: Ismail Fawaz et al. 2020, "InceptionTime: Finding AlexNet for time series classification",
arXiv:1909.04939 (depth 6, 32 filters, kernels 40, 20, 10, a shortcut every third module).
InceptionTime itself is an ensemble of five of these. Other widths and depths are our own.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from edgedistill.models.convolution import SameConv1d, conv_norm

_KERNELS = (40, 20, 10)
_SHORTCUT_EVERY = 3


class Inception(nn.Module):
    """Map series (N, C, T) to logits (N, K).

    Every one of `depth` modules gives 4 x `width` features.
    """

    def __init__(self, *, channels: int, classes: int, width: int, depth: int) -> None:
        super().__init__()
        modules: list[nn.Module] = []
        for start in range(0, depth, _SHORTCUT_EVERY):
            length = min(_SHORTCUT_EVERY, depth - start)
            modules.append(_Stage(channels, width, length))
            channels = 4 * width
        self.stages = nn.Sequential(*modules)
        self.head = nn.Linear(channels, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits, (N, K), of series, (N, C, T)."""
        logits: Tensor = self.head(self.stages(x).mean(dim=2))
        return logits


class _Stage(nn.Module):
    """Up to three modules; only a whole three gets a shortcut around it, as published."""

    def __init__(self, channels: int, width: int, length: int) -> None:
        super().__init__()
        modules = [_Module(channels if i == 0 else 4 * width, width) for i in range(length)]
        self.path = nn.Sequential(*modules)
        self.shortcut = None
        if length == _SHORTCUT_EVERY:
            self.shortcut = conv_norm(channels, 4 * width, 1, bias=False)
        self.activation = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.path(x)
        return out if self.shortcut is None else self.activation(out + self.shortcut(x))


class _Module(nn.Module):
    """Three convolutions and a pooled branch side by side; (N, C, T) to (N, 4 x width, T)."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        # A single channel cannot be narrowed: the published network skips the bottleneck there.
        self.bottleneck = SameConv1d(channels, width, 1, bias=False) if channels > 1 else None
        narrow = channels if self.bottleneck is None else width
        self.branches = nn.ModuleList(SameConv1d(narrow, width, k, bias=False) for k in _KERNELS)
        self.pooled = nn.Sequential(
            nn.MaxPool1d(3, stride=1, padding=1), SameConv1d(channels, width, 1, bias=False)
        )
        self.norm = nn.BatchNorm1d(4 * width)
        self.activation = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        narrow = x if self.bottleneck is None else self.bottleneck(x)
        parts = [branch(narrow) for branch in self.branches]
        out: Tensor = self.activation(self.norm(torch.cat([*parts, self.pooled(x)], dim=1)))
        return out
