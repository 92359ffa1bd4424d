"""scikit-learn and aeon estimators as teachers, on real series."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from aeon.datasets import load_basic_motions, load_italy_power_demand
from aeon.transformations.collection import Tabularizer
from sklearn.linear_model import LogisticRegression, RidgeClassifierCV
from sklearn.pipeline import make_pipeline
from sklearn.svm import SVC

from edgedistill.errors import ModelError
from edgedistill.teachers import EstimatorClassifier
from edgedistill.teachers import estimator as estimator_module

POWER = ("1", "2")


@pytest.fixture(scope="module")
def power() -> tuple[np.ndarray, np.ndarray]:
    x, y = load_italy_power_demand(split="train")
    return x.astype(np.float32), y


@pytest.fixture(scope="module")
def motions() -> tuple[np.ndarray, np.ndarray]:
    x, y = load_basic_motions(split="train")
    return x.astype(np.float32), y


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits.astype(np.float64))
    return powers / powers.sum(axis=1, keepdims=True)


def test_probabilities_come_back_through_softmax(power):
    x, y = power
    estimator = LogisticRegression().fit(x[:, 0], y)

    logits = EstimatorClassifier(estimator, class_names=POWER).logits(x)

    np.testing.assert_allclose(softmax(logits), estimator.predict_proba(x[:, 0]), atol=1e-5)
    assert logits.dtype == np.float32


def test_columns_follow_our_order_of_classes(power):
    x, y = power
    estimator = LogisticRegression().fit(x[:, 0], y)

    ours = EstimatorClassifier(estimator, class_names=("1", "2")).logits(x)
    swapped = EstimatorClassifier(estimator, class_names=("2", "1")).logits(x)

    np.testing.assert_array_equal(swapped, ours[:, ::-1])


@pytest.mark.parametrize("labels", [int, float, str], ids=lambda t: t.__name__)
def test_classes_may_be_numbers_or_names(labels, power):
    x, y = power
    by_name = LogisticRegression().fit(x[:, 0], y)
    other = LogisticRegression().fit(x[:, 0], y.astype(labels))

    expected = EstimatorClassifier(by_name, class_names=POWER).logits(x)

    np.testing.assert_array_equal(EstimatorClassifier(other, class_names=POWER).logits(x), expected)


def test_classes_may_be_our_labels(motions):
    x, y = motions
    names, labels = np.unique(y, return_inverse=True)
    estimator = RidgeClassifierCV().fit(x.reshape(len(x), -1), labels)

    logits = EstimatorClassifier(estimator, class_names=list(names)).logits(x)

    np.testing.assert_array_equal(logits.argmax(axis=1), labels)


@pytest.mark.parametrize("estimator", [RidgeClassifierCV(), SVC()], ids=lambda e: type(e).__name__)
def test_decision_values_serve_where_there_are_no_probabilities(estimator, power):
    """A binary decision d becomes two logits that differ by d."""
    x, y = power
    estimator.fit(x[:, 0], y)

    logits = EstimatorClassifier(estimator, class_names=POWER).logits(x)

    decision = estimator.decision_function(x[:, 0].astype(np.float64))
    np.testing.assert_allclose(logits[:, 1] - logits[:, 0], decision, rtol=1e-4, atol=1e-5)


@pytest.fixture(scope="module")
def aeon_outputs() -> dict[str, dict[str, list]]:
    """Outputs of aeon's estimators by name, from a process in which Numba compiles nothing.

    Compiled, the kernels of two of them cost minutes, and are the same code.
    """
    program = Path(__file__).with_name("aeon_estimators.py")
    environment = {**os.environ, "NUMBA_DISABLE_JIT": "1"}
    ran = subprocess.run([sys.executable, program], env=environment, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["HydraClassifier", "MiniRocketClassifier", "MultiRocketHydraClassifier"]
)
def test_aeon_estimator_gets_channels_and_gives_decision_values(name, aeon_outputs):
    """Over a ridge classifier aeon's own predict_proba is a one-hot vote, which teaches nothing."""
    outputs = {key: np.array(value) for key, value in aeon_outputs[name].items()}

    logits, classes = outputs["logits"], outputs["classes"]

    assert set(np.unique(outputs["probabilities"])) == {0.0, 1.0}
    assert len(np.unique(logits)) > len(logits)
    np.testing.assert_array_equal(classes[logits.argmax(axis=1)], outputs["predictions"])


def test_pipeline_that_begins_with_aeon_gets_channels(motions):
    x, y = motions
    estimator = make_pipeline(Tabularizer(), RidgeClassifierCV())
    estimator.fit(x, y)

    logits = EstimatorClassifier(estimator, class_names=list(np.unique(y))).logits(x)

    np.testing.assert_array_equal(np.unique(y)[logits.argmax(axis=1)], estimator.predict(x))


def test_batches_change_nothing(power, monkeypatch):
    x, y = power
    teacher = EstimatorClassifier(LogisticRegression().fit(x[:, 0], y), class_names=POWER)
    whole = teacher.logits(x)

    monkeypatch.setattr(estimator_module, "_BATCH", 10)

    np.testing.assert_allclose(teacher.logits(x), whole, rtol=1e-6)


def test_unfitted_estimator_is_refused():
    with pytest.raises(ModelError, match="LogisticRegression without classes_: it is not fitted"):
        EstimatorClassifier(LogisticRegression(), class_names=POWER)


def test_other_classes_are_refused(power):
    x, y = power
    estimator = LogisticRegression().fit(x[:, 0], y)

    with pytest.raises(ModelError, match=r"knows the classes \['1', '2'\]; .*\['walk', 'run'\]"):
        EstimatorClassifier(estimator, class_names=("walk", "run"))


def test_estimator_with_labels_only_is_refused(power):
    class LabelsOnly:
        classes_ = ("1", "2")

    with pytest.raises(ModelError, match="LabelsOnly, which has neither predict_proba nor"):
        EstimatorClassifier(LabelsOnly(), class_names=POWER)
