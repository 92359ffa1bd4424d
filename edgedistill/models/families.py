"""The published networks LSTM, FCN, ResNet and Inception; `lite` is the fifth.

All map series (N, C, T) to logits (N, K). Where a network names its published width and depth,
others are our own extension.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

_FCN_KERNELS = (8, 5, 3)
_INCEPTION_KERNELS = (40, 20, 10)
_SHORTCUT_EVERY = 3


class SameConv1d(nn.Conv1d):
    """A 1-D convolution, (N, C, T) to (N, filters, T), that keeps the length of the series.

    Kernels may be even, and longer than the series. Torch's own 'same' padding exports as a
    separate Pad in front of every convolution; here the symmetric part stays inside the
    convolution, and only an even kernel pays for one extra zero on the right (where Keras, in
    which these networks were published, puts it too).
    """

    def __init__(
        self,
        channels: int,
        filters: int,
        kernel: int,
        *,
        dilation: int = 1,
        groups: int = 1,
        bias: bool = True,
    ) -> None:
        reach = dilation * (kernel - 1)
        super().__init__(
            channels,
            filters,
            kernel,
            padding=reach // 2,
            dilation=dilation,
            groups=groups,
            bias=bias,
        )
        self.extra_right = reach % 2

    def forward(self, input: Tensor) -> Tensor:
        """Return the convolution, (N, filters, T)."""
        if self.extra_right:
            input = functional.pad(input, (0, self.extra_right))
        return super().forward(input)


def conv_norm(channels: int, filters: int, kernel: int, *, bias: bool = True) -> nn.Sequential:
    """Return a convolution and its batch norm, without activation."""
    return nn.Sequential(SameConv1d(channels, filters, kernel, bias=bias), nn.BatchNorm1d(filters))


class LSTM(nn.Module):
    """A stack of LSTM layers with a linear head on the last time step.

    Source: the networks of "Learning to Reason: Temporal Saliency Distillation", arXiv:2601.04263.
    Its teacher has 3 layers of 100 units (203,002 parameters at C=1, K=2), its students 1 layer of
    16 (1,250) or 8 (370).
    """

    def __init__(self, *, channels: int, classes: int, width: int, depth: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(channels, width, num_layers=depth, batch_first=True)
        self.head = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits, (N, K), of series, (N, C, T)."""
        states: Tensor = self.lstm(x.transpose(1, 2))[0]  # (N, T, width)
        logits: Tensor = self.head(states[:, -1])
        return logits


class FCN(nn.Module):
    """A fully convolutional network: convolutions, batch norm, ReLU, mean over time, linear head.

    The first and the last of `depth` blocks have `width` filters, those between twice as many;
    blocks after the third keep its kernel of 3.

    Source: Wang et al. 2017, "Time series classification from scratch with deep neural networks",
    arXiv:1611.06455 (kernels 8, 5, 3; filters 128, 256, 128).
    """

    def __init__(self, *, channels: int, classes: int, width: int, depth: int) -> None:
        super().__init__()
        blocks: list[nn.Module] = []
        for index in range(depth):
            filters = 2 * width if 0 < index < depth - 1 else width
            kernel = _FCN_KERNELS[min(index, len(_FCN_KERNELS) - 1)]
            blocks += [conv_norm(channels, filters, kernel), nn.ReLU()]
            channels = filters
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits, (N, K), of series, (N, C, T)."""
        logits: Tensor = self.head(self.blocks(x).mean(dim=2))
        return logits


class ResNet(nn.Module):
    """A residual network of three-convolution blocks, mean over time, linear head.

    The first of `depth` blocks has `width` filters, the others twice as many.

    Source: Wang et al. 2017, as for `FCN` (3 blocks, kernels 8, 5, 3; filters 64, 128, 128).
    """

    def __init__(self, *, channels: int, classes: int, width: int, depth: int) -> None:
        super().__init__()
        blocks: list[nn.Module] = []
        for index in range(depth):
            filters = width if index == 0 else 2 * width
            blocks.append(_ResidualBlock(channels, filters))
            channels = filters
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Linear(channels, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits, (N, K), of series, (N, C, T)."""
        logits: Tensor = self.head(self.blocks(x).mean(dim=2))
        return logits


class _ResidualBlock(nn.Module):
    """Three convolutions beside a shortcut; (N, C, T) to (N, filters, T)."""

    def __init__(self, channels: int, filters: int) -> None:
        super().__init__()
        self.path = nn.Sequential(
            conv_norm(channels, filters, 8),
            nn.ReLU(),
            conv_norm(filters, filters, 5),
            nn.ReLU(),
            conv_norm(filters, filters, 3),
        )
        # The published shortcut has a batch norm even where the number of filters stays the same.
        self.shortcut = (
            nn.BatchNorm1d(filters) if channels == filters else conv_norm(channels, filters, 1)
        )
        self.activation = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.activation(self.path(x) + self.shortcut(x))
        return out


class Inception(nn.Module):
    """One network of InceptionTime: parallel convolutions of three lengths behind a bottleneck.

    Every one of `depth` modules gives 4 x `width` features. InceptionTime itself is an ensemble of
    five of these.

    Source: Ismail Fawaz et al. 2020, "InceptionTime: Finding AlexNet for time series
    classification", arXiv:1909.04939 (depth 6, 32 filters, kernels 40, 20, 10, a shortcut every
    third module).
    """

    def __init__(self, *, channels: int, classes: int, width: int, depth: int) -> None:
        super().__init__()
        modules: list[nn.Module] = []
        for start in range(0, depth, _SHORTCUT_EVERY):
            length = min(_SHORTCUT_EVERY, depth - start)
            modules.append(_InceptionStage(channels, width, length))
            channels = 4 * width
        self.stages = nn.Sequential(*modules)
        self.head = nn.Linear(channels, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits, (N, K), of series, (N, C, T)."""
        logits: Tensor = self.head(self.stages(x).mean(dim=2))
        return logits


class _InceptionStage(nn.Module):
    """Up to three modules; only a whole three gets a shortcut around it, as published."""

    def __init__(self, channels: int, width: int, length: int) -> None:
        super().__init__()
        modules = [
            _InceptionModule(channels if i == 0 else 4 * width, width) for i in range(length)
        ]
        self.path = nn.Sequential(*modules)
        self.shortcut = None
        if length == _SHORTCUT_EVERY:
            self.shortcut = conv_norm(channels, 4 * width, 1, bias=False)
        self.activation = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.path(x)
        return out if self.shortcut is None else self.activation(out + self.shortcut(x))


class _InceptionModule(nn.Module):
    """Three convolutions and a pooled branch side by side; (N, C, T) to (N, 4 x width, T)."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        # A single channel cannot be narrowed: the published network skips the bottleneck there.
        self.bottleneck = SameConv1d(channels, width, 1, bias=False) if channels > 1 else None
        narrow = channels if self.bottleneck is None else width
        self.branches = nn.ModuleList(
            SameConv1d(narrow, width, k, bias=False) for k in _INCEPTION_KERNELS
        )
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
