"""A residual network of three-convolution blocks, mean over time, linear head.

Source: Wang et al. 2017, "Time series classification from scratch with deep neural networks",
arXiv:1611.06455 (3 blocks, kernels 8, 5, 3; filters 64, 128, 128). Other widths and depths are our
own.
"""

from __future__ import annotations

from torch import Tensor, nn

from edgedistill.models.convolution import conv_norm


class ResNet(nn.Module):
    """Map series (N, C, T) to logits (N, K).

    The first of `depth` blocks has `width` filters, the others twice as many.
    """

    def __init__(self, *, channels: int, classes: int, width: int, depth: int) -> None:
        super().__init__()
        blocks: list[nn.Module] = []
        for index in range(depth):
            filters = width if index == 0 else 2 * width
            blocks.append(_Block(channels, filters))
            channels = filters
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Linear(channels, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits, (N, K), of series, (N, C, T)."""
        logits: Tensor = self.head(self.blocks(x).mean(dim=2))
        return logits


class _Block(nn.Module):
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
