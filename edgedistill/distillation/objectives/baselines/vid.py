"""Variational information distillation: predict the teacher's layer from the student's."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from edgedistill.distillation.features import Pair
from edgedistill.distillation.objectives.baselines.layers import LayerObjective
from edgedistill.distillation.objectives.objective import Batch, StudentOutputs

_FIRST = 5.0  # initial variance: the student's first predictions are poor
_LEAST = 1e-5  # variance of a channel that is predicted exactly


class VID(LayerObjective):
    """Negative log-likelihood of the teacher's layer under a Gaussian that the student predicts.

    A lower bound of the mutual information of both layers, less constants. The mean comes from
    the student's layer by a trained network, the variance is a trained number a channel: a
    channel that cannot be predicted from the student counts little.

    As published: the variance is a softplus of its parameter, its own for every channel. Our
    choices: the network of the mean is three convolutions of one step, ReLU between, as wide as
    the teacher; the loss is the mean over channels and steps, not the sum; one pair of layers.

    Source: Ahn et al. 2019, arXiv:1904.05835.
    """

    def __init__(self, pair: Pair) -> None:
        """Start with a random mean and a large variance.

        Args:
            pair: the layers, (N, C', T') and (N, C'', T').
        """
        super().__init__(pair)
        width = pair.teacher_channels
        self.mean = nn.Sequential(
            nn.Conv1d(pair.student_channels, width, 1),
            nn.ReLU(),
            nn.Conv1d(width, width, 1),
            nn.ReLU(),
            nn.Conv1d(width, width, 1),
        )
        first = math.log(math.expm1(_FIRST - _LEAST))  # of which the softplus is the variance
        self.raw_variance = nn.Parameter(torch.full((width,), first))

    def forward(self, batch: Batch, outputs: StudentOutputs) -> Tensor:
        """Return the loss, a scalar in nats; it can be negative."""
        student, teacher = self.layer_outputs(batch, outputs)
        variance = functional.softplus(self.raw_variance)[:, None] + _LEAST  # (C'', 1)
        gap = (teacher - self.mean(student)).square()  # (N, C'', T')
        loss: Tensor = 0.5 * (gap / variance + variance.log()).mean()
        return loss
