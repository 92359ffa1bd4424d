"""A fully convolutional network: convolutions, batch norm, ReLU, mean over time, linear head.

Source: Wang et al. 2017, "Time series classification from scratch with deep neural networks",
arXiv:1611.06455 (kernels 8, 5, 3; filters 128, 256, 128). A narrower or deeper one is our own
extension.
"""

from __future__ import annotations

from torch import Tensor, nn

from edgedistill.models.convolution import conv_norm

_KERNELS = (8, 5, 3)


class FCN(nn.Module):
    """Map series (N, C, T) to logits (N, K).

    The first and the last of `depth` blocks have `width` filters, those between twice as many;
    blocks after the third keep its kernel of 3.
    """

    def __init__(self, *, channels: int, classes: int, width: int, depth: int) -> None:
        super().__init__()
        blocks: list[nn.Module] = []
        for index in range(depth):
            filters = 2 * width if 0 < index < depth - 1 else width
            kernel = _KERNELS[min(index, len(_KERNELS) - 1)]
            blocks += [conv_norm(channels, filters, kernel), nn.ReLU()]
            channels = filters
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits, (N, K), of series, (N, C, T)."""
        logits: Tensor = self.head(self.blocks(x).mean(dim=2))
        return logits
