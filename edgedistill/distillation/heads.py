"""Classifiers on what a frozen teacher knows half way: a linear head at several of its layers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from edgedistill_kernels.reference import Floats, Ints
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from edgedistill.distillation.context import TrainingData
from edgedistill.distillation.features import TeacherFeatures

_BATCH = 256  # series at once
_ITERATIONS = 1000  # at most; a linear head on a few hundred features needs far fewer


def evenly_spaced_layers(layers: Sequence[str], count: int) -> list[str]:
    """Return layers that part a network evenly, its end left out.

    Args:
        layers: in the order they run, one at least.
        count: how many, as far as there are layers.

    >>> evenly_spaced_layers(["conv", "norm", "relu", "conv2", "norm2", "relu2"], 1)
    ['relu']
    """
    at = [-(-(index + 1) * len(layers) // (count + 1)) - 1 for index in range(count)]
    return [layers[index] for index in dict.fromkeys(at)]


def head_logits(teacher: TeacherFeatures, layers: Sequence[str], data: TrainingData) -> Tensor:
    """Train a linear head on each layer's mean over time, and return what all heads say.

    A head is a logistic regression on standardized features: it has one solution, so there
    is nothing to draw. It learns from training rows alone.

    Args:
        teacher: frozen; asked for `layers`.
        layers: their names.
        data: all series that training may see.

    Returns:
        Logits of every series, (heads, M, K), float32.
    """
    parts = [
        {name: value.mean(dim=2) for name, value in teacher(part).items()}
        for part in (data.series[at : at + _BATCH] for at in range(0, len(data.series), _BATCH))
    ]
    found = []
    for name in layers:
        features = torch.cat([part[name] for part in parts]).double().numpy()  # (M, C')
        found.append(_train_head(features, data.labels.numpy(), data.train.numpy()))
    return torch.from_numpy(np.stack(found))


def _train_head(features: Floats, labels: Ints, train: Ints) -> Floats:
    """Return the logits, (M, K), of a head that learned from some rows of (M, C')."""
    head = make_pipeline(StandardScaler(), LogisticRegression(max_iter=_ITERATIONS))
    head.fit(features[train], labels[train])
    logits: Floats = head.decision_function(features).astype(np.float32)
    if logits.ndim == 1:  # of two classes it gives the difference
        logits = np.stack([-logits / 2, logits / 2], axis=1)
    return logits
