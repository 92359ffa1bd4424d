"""A stack of LSTM layers with a linear head on the last time step.

Source: the networks of "Learning to Reason: Temporal Saliency Distillation", arXiv:2601.04263. Its
teacher has 3 layers of 100 units (203,002 parameters at C=1, K=2), its students 1 layer of 16
(1,250) or 8 (370).
"""

from __future__ import annotations

from torch import Tensor, nn


class LSTM(nn.Module):
    """Map series (N, C, T) to logits (N, K) through the state after the last step."""

    def __init__(self, *, channels: int, classes: int, width: int, depth: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(channels, width, num_layers=depth, batch_first=True)
        self.head = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits, (N, K), of series, (N, C, T)."""
        states: Tensor = self.lstm(x.transpose(1, 2))[0]  # (N, T, width)
        logits: Tensor = self.head(states[:, -1])
        return logits
