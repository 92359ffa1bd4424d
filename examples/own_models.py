"""A temporal convolutional network: dilated, causal, with the output of its last step.

Source: Bai et al. 2018, arXiv:1803.01271.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Chomp(nn.Module):
    """Cut off what the padding of a causal convolution adds at the end."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def forward(self, x: Tensor) -> Tensor:
        return x[:, :, : -self.size]


class TCN(nn.Module):
    """Map series (N, C, T) to logits (N, K)."""

    def __init__(self, channels: int, classes: int, width: int = 16, levels: int = 3) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for level in range(levels):
            padding = 2 * 2**level
            layers += [
                nn.Conv1d(channels, width, 3, padding=padding, dilation=2**level),
                Chomp(padding),
                nn.BatchNorm1d(width),
                nn.ReLU(),
            ]
            channels = width
        self.body = nn.Sequential(*layers)
        self.head = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x)[:, :, -1])


def fit(network: nn.Module, x: Tensor, y: Tensor, *, epochs: int, seed: int = 0) -> None:
    """Train a network on all series at once."""
    torch.manual_seed(seed)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    for _ in range(epochs):
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(x), y).backward()
        optimizer.step()
    network.eval()
