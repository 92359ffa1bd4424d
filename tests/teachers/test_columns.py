"""Columns that are named, and one column for two classes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from edgedistill.errors import ModelError, UsageError
from edgedistill.models import ModelSpec, build
from edgedistill.saliency.occlusion import explain_classifier
from edgedistill.saliency.perturbation import default_plan
from edgedistill.teachers import TorchClassifier
from edgedistill.teachers.columns import ReorderedClassifier, SingleLogitClassifier, column_order


def network(classes: int) -> TorchClassifier:
    torch.manual_seed(1)
    module = build(ModelSpec(family="fcn", width=4), channels=1, classes=classes, length=12)
    return TorchClassifier(module, classes=classes)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (("walk", "jog"), "without run and with the unknown jog"),
        (("walk", "walk"), "without run and twice with walk"),
        (("walk",), "without run"),
        (("run", "walk", "sit"), "with the unknown sit"),
    ],
)
def test_names_other_than_the_classes_are_refused(columns, message):
    with pytest.raises(UsageError, match=rf"{message}.*name each once, in the order of the teach"):
        column_order(columns, ("run", "walk"))


def test_names_that_are_no_numbers_are_compared_as_text():
    assert column_order(["nan", "inf"], ["inf", "nan"]) == [1, 0]
    with pytest.raises(UsageError):
        column_order(["Run", "walk"], ["run", "walk"])


def test_reordered_logits_and_maps_are_those_of_a_reordered_head(rng):
    """Also by the faster way to perturbed series."""
    x = rng.normal(size=(3, 1, 12)).astype(np.float32)
    inner, order = network(3), [2, 0, 1]
    own = network(3)
    with torch.no_grad():
        own.module.head.weight.copy_(inner.module.head.weight[order])
        own.module.head.bias.copy_(inner.module.head.bias[order])

    reordered = ReorderedClassifier(inner, order)

    np.testing.assert_allclose(reordered.logits(x), own.logits(x), atol=1e-6)
    assert reordered.changes is not None
    expected = explain_classifier(own, x, default_plan(12))
    actual = explain_classifier(reordered, x, default_plan(12))
    np.testing.assert_allclose(actual.kl, expected.kl, atol=1e-5)
    np.testing.assert_allclose(actual.signed, expected.signed, atol=1e-5)


def test_one_logit_becomes_two_with_the_sigmoid_as_softmax(rng):
    x = rng.normal(size=(5, 1, 12)).astype(np.float32)
    module = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 1))
    inner = TorchClassifier(module, classes=1)

    logits = SingleLogitClassifier(inner, probabilities=False).logits(x)

    p = 1 / (1 + np.exp(-inner.logits(x)[:, 0].astype(float)))
    softmax = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(softmax[:, 1], p, rtol=1e-4)


def test_one_probability_is_that_of_the_second_class():
    class Constant:
        name, classes, can_explain, changes = "constant", 1, True, None

        def logits(self, x):
            return np.float32([[0.25], [1.0]])[: len(x)]

    logits = SingleLogitClassifier(Constant(), probabilities=True).logits(np.zeros((2, 1, 4)))

    np.testing.assert_allclose(np.exp(logits), [[0.75, 0.25], [0, 1]], atol=2e-6)


def test_one_probability_beyond_its_range_is_refused():
    class Growing:
        name, classes, can_explain, changes = "growing", 1, True, None

        def logits(self, x):
            return np.linspace(0.5, 1.5, len(x), dtype=np.float32)[:, None]

    with pytest.raises(ModelError, match=r"taken for a probability; for others it is 0\.5 to 1\.5"):
        SingleLogitClassifier(Growing(), probabilities=True).logits(np.zeros((2, 1, 4)))
