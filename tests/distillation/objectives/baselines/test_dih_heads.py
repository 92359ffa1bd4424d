"""Heads at a frozen teacher's layers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from aeon.datasets import load_basic_motions
from sklearn.linear_model import LogisticRegression
from torch import nn

from edgedistill.distillation.context import TrainingData
from edgedistill.distillation.features import TeacherFeatures, layer_channels
from edgedistill.distillation.objectives.baselines.dih import evenly_spaced_layers, head_logits
from edgedistill.models import ModelSpec, build


@pytest.fixture(scope="module")
def motions() -> TrainingData:
    """40 series of four motions, ten of them for validation."""
    series, names = load_basic_motions(split="train")
    labels = np.unique(names, return_inverse=True)[1]
    rows = torch.arange(40)
    return TrainingData(
        series=torch.from_numpy(series[:, :2, ::4].astype(np.float32)),
        labels=torch.from_numpy(labels.astype(np.int64)),
        train=rows[rows % 4 > 0],
        validation=rows[rows % 4 == 0],
    )


def network(classes: int) -> nn.Module:
    torch.manual_seed(0)
    return build(ModelSpec(family="fcn", width=4), channels=2, classes=classes, length=25).eval()


def two(data: TrainingData) -> TrainingData:
    return TrainingData(data.series, data.labels // 2, data.train, data.validation)


@pytest.mark.parametrize("classes", [2, 4])
def test_a_head_is_a_logistic_regression_on_the_mean_over_time(motions, classes):
    data = motions if classes == 4 else two(motions)
    teacher = network(classes)
    layers = ["blocks.1", "blocks.3"]

    logits = head_logits(TeacherFeatures(teacher, layers), layers, data)

    assert logits.shape == (2, 40, classes)
    assert logits.dtype == torch.float32
    with torch.no_grad():
        features = teacher.blocks[:4](data.series).mean(dim=2).double().numpy()
    features -= features[data.train].mean(axis=0)
    features /= features[data.train].std(axis=0)
    head = LogisticRegression(max_iter=1000).fit(features[data.train], data.labels[data.train])
    expected = head.predict_proba(features)
    np.testing.assert_allclose(logits[1].softmax(dim=1), expected, atol=1e-3)


def test_heads_fit_the_training_series(motions):
    """On an untrained network: its random features separate the motions."""
    layers = list(layer_channels(network(4), motions.series[:2]))

    logits = head_logits(TeacherFeatures(network(4), layers), layers, motions)

    right = (logits.argmax(dim=2) == motions.labels).float()
    assert right[:, motions.train].mean() > 0.8


def test_validation_labels_are_not_used(motions):
    layers = ["blocks.1"]
    labels = motions.labels.clone()
    labels[motions.validation] = 0
    blind = TrainingData(motions.series, labels, motions.train, motions.validation)

    seen, unseen = (
        head_logits(TeacherFeatures(network(4), layers), layers, data) for data in (motions, blind)
    )

    assert torch.equal(seen, unseen)


@pytest.mark.parametrize(
    ("number", "count", "expected"),
    [(9, 2, [2, 5]), (6, 2, [1, 3]), (1, 2, [0]), (2, 5, [0, 1]), (4, 1, [1])],
    ids=str,
)
def test_layers_are_evenly_spaced(number, count, expected):
    """The third of nine, the sixth; never one twice."""
    names = [f"layer{index}" for index in range(number)]

    assert evenly_spaced_layers(names, count) == [names[index] for index in expected]
