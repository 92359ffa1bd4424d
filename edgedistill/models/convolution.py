"""A 1-D convolution that keeps the length of the series, also for even kernels.

Torch's own 'same' padding exports as a separate Pad in front of every convolution; here the
symmetric part stays inside the convolution, and only an even kernel pays for one extra zero on the
right (where Keras, in which these networks were published, puts it too).
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional


class SameConv1d(nn.Conv1d):
    """Convolve (N, C, T) to (N, filters, T); kernels longer than the series are fine."""

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
