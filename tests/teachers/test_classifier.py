"""Logits, probabilities, and what is neither."""

from __future__ import annotations

import numpy as np
import pytest

from edgedistill.errors import ModelError
from edgedistill.teachers.classifier import SoftmaxClassifier, check_logits, output_kind


@pytest.fixture
def logits(rng) -> np.ndarray:
    return (3 * rng.normal(size=(16, 4))).astype(np.float32)


def softmax(logits) -> np.ndarray:
    shares = np.exp(logits)
    return shares / shares.sum(axis=1, keepdims=True)


PROBABILITIES = {
    "exact": lambda shares: shares,
    "float16": lambda shares: shares.astype(np.float16).astype(np.float32),
    "two decimals": lambda shares: shares.round(2),
    "8-bit numbers": lambda shares: np.round(shares * 255) / np.float32(256),
}


@pytest.mark.parametrize("form", PROBABILITIES)
def test_probabilities_in_any_precision(form, logits):
    assert output_kind(PROBABILITIES[form](softmax(logits)), "net") == "probabilities"


LOGITS = {
    "as they are": lambda logits: logits,
    "logarithms of probabilities": lambda logits: np.log(softmax(logits)),
    "after a ReLU": lambda logits: np.maximum(logits, 0),
    "one column is the reference": lambda logits: logits * np.float32([1, 1, 1, 0]),
    "centered": lambda logits: logits - logits.mean(axis=1, keepdims=True),
    "small and positive, as of an untrained network": lambda logits: 0.3 + 0.02 * logits,
    "far from zero": lambda logits: logits + 100,
}


@pytest.mark.parametrize("form", LOGITS)
def test_logits_in_any_form(form, logits):
    assert output_kind(LOGITS[form](logits), "net") == "logits"


NEITHER = {
    "sigmoids": (lambda z: 1 / (1 + np.exp(-z)), "a sigmoid of each class.*Give the logits before"),
    "percent": (lambda z: 100 * softmax(z), "rows sum to 100: these are probabilities in percent"),
    "votes": (lambda z: np.eye(2)[(z[:, :2] > 0).astype(int)].sum(axis=1), "counts of votes"),
}


@pytest.mark.parametrize("form", NEITHER)
def test_what_is_neither_is_refused_with_what_was_seen(form, logits):
    make, message = NEITHER[form]
    outputs = np.float32(make(logits))

    with pytest.raises(ModelError, match=message):
        output_kind(outputs, "net")


def test_single_series_may_have_any_output():
    assert output_kind(np.float32([[-1, 2]]), "net") == "logits"


class Stub:
    name, classes, can_explain, changes = "net", 2, True, None

    def logits(self, x):
        return x[:, 0]


def test_probabilities_that_later_do_not_sum_to_one_are_refused():
    teacher = SoftmaxClassifier(Stub())

    assert np.exp(teacher.logits(np.float32([[[0.25, 0.75]]]))).round(3).tolist() == [[0.25, 0.75]]
    with pytest.raises(ModelError, match=r"for others its values are 0\.2 to 0\.4.* sum to 0\.6"):
        teacher.logits(np.float32([[[0.2, 0.4]]]))


def test_logarithm_of_a_probability_of_zero_is_named():
    with pytest.raises(ModelError, match=r"minus infinity.*Give log\(p \+ 1e-6\)"):
        check_logits(np.float32([[0, -np.inf]]), name="net", count=1, classes=2)
