"""One evaluation of any classifier against its teacher's explanation."""

from __future__ import annotations

import numpy as np
import pytest

from edgedistill.evaluation import contract, metrics
from edgedistill.evaluation.evaluate import evaluate, explain_teacher_class, map_agreement
from edgedistill.saliency.occlusion import explain_classifier
from edgedistill.saliency.perturbation import default_plan

PLAN = default_plan(40)


class Lines:
    """A classifier of two lines; at a negative weight its slope is turned round."""

    name, classes, can_explain, changes = "lines", 2, True, None

    def __init__(self, weight: float) -> None:
        self.slope = np.linspace(-weight, 1, 40, dtype=np.float32)

    def logits(self, x: np.ndarray) -> np.ndarray:
        return np.stack([x[:, 0] @ self.slope, -x[:, 0] @ self.slope], axis=1)


@pytest.fixture
def series(rng) -> np.ndarray:
    return rng.normal(size=(30, 1, 40)).astype(np.float32)


def test_estimates_are_those_of_the_contract(series, rng):
    """Of the maps that explain the teacher's class."""
    labels = rng.integers(2, size=30)
    teacher = explain_classifier(Lines(1.0), series, PLAN)

    found = evaluate(Lines(0.2), series, labels, teacher, PLAN)

    targets = teacher.logits.argmax(axis=1)
    expected = explain_classifier(Lines(0.2), series, PLAN, targets=targets)
    np.testing.assert_array_equal(found.explanation.signed, expected.signed)
    assert found.estimates == contract.compare(teacher, expected, labels)


def test_maps_explain_the_teachers_class(series):
    """Even where the classifier predicts another one itself."""
    contrary = explain_classifier(Lines(-1.0), series, PLAN)
    contrary.logits[:] = -Lines(1.0).logits(series)

    found = explain_teacher_class(Lines(1.0), series, PLAN, contrary)

    own = explain_classifier(Lines(1.0), series, PLAN)
    np.testing.assert_allclose(found.signed, -own.signed, atol=1e-5)


def test_map_agreement_is_the_correlation_of_each_series(series):
    teacher = explain_classifier(Lines(1.0), series, PLAN)

    found = map_agreement(Lines(0.2), series, PLAN, teacher)

    signed = explain_teacher_class(Lines(0.2), series, PLAN, teacher).signed
    np.testing.assert_array_equal(found, metrics.pearson(teacher.signed, signed))
    assert found.shape == (30,)
