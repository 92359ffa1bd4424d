"""Intermediate heads: distill from linear classifiers at several depths of the teacher.

A head is a linear classifier on the features of one of the frozen teacher's layers.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from edgedistill.distillation.context import TrainingData
from edgedistill.distillation.features import TeacherFeatures
from edgedistill.distillation.objectives.objective import Batch, Objective, StudentOutputs
from edgedistill.io.arrays import Doubles, Floats, Ints

_BATCH = 256  # series at once
_ITERATIONS = 1000  # at most; a linear head on a few hundred features needs far fewer


class DIH(Objective):
    """Knowledge distillation from several heads of a frozen teacher, the mean over the heads.

    As published: linear heads at layers of the frozen teacher, and the teacher's own logits
    are one of the cohort. Our choices: all heads count alike; they are logistic regressions on
    the mean over time (see `heads`); where they stand.

    Source: Asadian and Salehi-Abari 2021, arXiv:2103.00497.
    """

    cohort: Tensor

    def __init__(self, cohort: Tensor, *, temperature: float) -> None:
        """Keep the logits of all heads for all series.

        Args:
            cohort: logits of the heads, (heads, M, K).
            temperature: softmax temperature of heads and student.
        """
        super().__init__()
        self.register_buffer("cohort", cohort, persistent=False)
        self._temperature = temperature

    def forward(self, batch: Batch, outputs: StudentOutputs) -> Tensor:
        """Return the loss, a scalar."""
        teacher = functional.log_softmax(self.cohort[:, batch.rows] / self._temperature, dim=-1)
        student = functional.log_softmax(outputs.logits / self._temperature, dim=-1)
        divergence = functional.kl_div(
            student.expand_as(teacher).flatten(0, 1),
            teacher.flatten(0, 1),
            log_target=True,
            reduction="batchmean",
        )
        return divergence * self._temperature**2


def evenly_spaced_layers(layers: Sequence[str], count: int) -> list[str]:
    """Return layers at even distances in a network, without its end.

    Args:
        layers: names in the order of the forward, one at least.
        count: number of layers, fewer if the network has fewer.

    >>> evenly_spaced_layers(["conv", "norm", "relu", "conv2", "norm2", "relu2"], 1)
    ['relu']
    """
    places = [-(-(index + 1) * len(layers) // (count + 1)) - 1 for index in range(count)]
    return [layers[index] for index in dict.fromkeys(places)]


def head_logits(teacher: TeacherFeatures, layers: Sequence[str], data: TrainingData) -> Tensor:
    """Train a linear head on each layer's mean over time, and return the logits of all.

    A head is a logistic regression on standardized features: it has one solution, so there
    is nothing to draw. It is fitted to labeled training rows alone.

    Args:
        teacher: frozen teacher that records `layers`.
        layers: names of the layers.
        data: all series that training may see.

    Returns:
        Logits of every series, (heads, M, K), float32.
    """
    parts = [
        {name: value.mean(dim=2) for name, value in teacher(part).items()}
        for part in (data.series[at : at + _BATCH] for at in range(0, len(data.series), _BATCH))
    ]
    train = data.train if data.labeled is None else data.train[data.labeled[data.train]]
    logits = []
    for name in layers:
        features = torch.cat([part[name] for part in parts]).double().numpy()  # (M, C')
        logits.append(_train_head(features, data.labels.numpy(), train.numpy()))
    return torch.from_numpy(np.stack(logits))


def _train_head(features: Doubles, labels: Ints, train: Ints) -> Floats:
    """Return the logits, (M, K), of a head that learned from some rows of (M, C')."""
    from sklearn.linear_model import LogisticRegression  # here: few objectives need a head
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    head = make_pipeline(StandardScaler(), LogisticRegression(max_iter=_ITERATIONS))
    head.fit(features[train], labels[train])
    logits: Floats = head.decision_function(features).astype(np.float32)
    if logits.ndim == 1:  # of two classes it gives the difference
        logits = np.stack([-logits / 2, logits / 2], axis=1)
    return logits
