"""A network that also predicts its teacher's saliency map: XDistillation.

Source: "Learning Interpretation with Explainable Knowledge Distillation", arXiv:2111.06945, IEEE
BigData 2021. From the paper: a small convolutional autoencoder learns to predict a teacher's
explanations, its features are fused with the student's, and it stays when the student is
deployed. Our choices: series in place of images; the encoder reads the series; three convolutions
down, three up, 8 filters, a quarter of the time steps between; the decoder also sees the mean of
the encoder's features over time, because why a class was chosen depends on the whole series; and
the fusion, that mean beside the student's embedding in front of one linear head.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

_FILTERS = 8
_STRIDE = 2  # of two convolutions
_SHORTEST = 8  # steps; of a shorter one, alone in a batch, batch norm would see a single step


class SelfExplainingNetwork(nn.Module):
    """Map series (N, C, T) to logits (N, K), and its features to a saliency map (N, T)."""

    def __init__(self, network: nn.Module, *, channels: int, classes: int, length: int) -> None:
        """Take over a network.

        Args:
            network: one of ours; its last layer, the linear `head`, is replaced.
            channels: C.
            classes: K.
            length: T, of all series.
        """
        super().__init__()
        features = cast("nn.Linear", network.get_submodule("head")).in_features
        network.set_submodule("head", nn.Identity())
        self.length = length
        self.network = network  # (N, C, T) -> its embedding, (N, F)
        stride = _STRIDE if length >= _SHORTEST else 1
        self.shrink = stride**2  # time steps of a series for one of the code
        self.encoder = nn.Sequential(
            *_convolution(channels, 7, stride),
            *_convolution(_FILTERS, 5, stride),
            *_convolution(_FILTERS, 5),
        )
        self.mixed = nn.Sequential(*_convolution(2 * _FILTERS, 5))
        self.refined = nn.Sequential(*_convolution(_FILTERS, 5), nn.Conv1d(_FILTERS, 1, 1))
        self.head = nn.Linear(features + _FILTERS, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits, (N, K), of series, (N, C, T); nothing is spent on the map."""
        logits, _ = self._logits(x)
        return logits

    def explain(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits, (N, K), and the predicted map of series, (N, T), from one pass."""
        logits, code = self._logits(x)
        return logits, self.explanation(code)

    def explanation(self, code: Tensor) -> Tensor:
        """Return the predicted map, (N, T), from the code of the encoder, (N, C', T')."""
        whole = code.mean(dim=2, keepdim=True).expand_as(code)
        coarse = self.mixed(torch.cat([code, whole], dim=1))
        # Repeated, not interpolated: that has no reproducible gradient on a GPU.
        fine = coarse.repeat_interleave(self.shrink, dim=2)[..., : self.length]
        predicted: Tensor = self.refined(fine)[:, 0]
        return predicted

    def _logits(self, x: Tensor) -> tuple[Tensor, Tensor]:
        code = self.encoder(x)
        fused = torch.cat([self.network(x), code.mean(dim=2)], dim=1)
        return self.head(fused), code


class WithExplanation(nn.Module):
    """A `SelfExplainingNetwork` whose forward gives both logits and map, for a file or its cost."""

    def __init__(self, model: SelfExplainingNetwork) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits, (N, K), and the predicted map, (N, T), of series, (N, C, T)."""
        return self.model.explain(x)


def _convolution(channels: int, kernel: int, stride: int = 1) -> list[nn.Module]:
    """Return the layers of a convolution that divides the time steps by `stride`, rounded up."""
    convolution = nn.Conv1d(
        channels, _FILTERS, kernel, stride=stride, padding=kernel // 2, bias=False
    )
    return [convolution, nn.BatchNorm1d(_FILTERS), nn.ReLU()]
