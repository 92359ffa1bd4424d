"""A fitted scikit-learn or aeon estimator as a classifier."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import numpy as np

from edgedistill.errors import ModelError, UsageError
from edgedistill.io.arrays import Doubles, Floats
from edgedistill.teachers.classifier import (
    check_logits,
    check_series,
    describe_error,
    log_probabilities,
)
from edgedistill.teachers.columns import column_order

_BATCH = 512  # series at once; ROCKET makes 20,000 features of each


class EstimatorClassifier:
    """An estimator whose decision values or probabilities stand for logits.

    aeon estimators, and pipelines that begin with one, get (N, C, T); all others get (N, C*T).
    `predict_proba` becomes log(p + 1e-6). Where it is missing, or only repeats the winner as a
    one-hot vote (aeon's ROCKET and Hydra over a ridge classifier), `decision_function` is used.

    Args:
        estimator: estimator fitted on the labels 0..K-1 or on the class names.
        class_names: class names of the data set, in the order of the labels 0..K-1.
        name: name for messages and reports.

    Raises:
        ModelError: not fitted, fitted on other classes, or it gives neither of the two.
    """

    can_explain = True
    changes = None

    def __init__(
        self, estimator: Any, *, class_names: Sequence[str], name: str = "estimator"
    ) -> None:
        self.estimator = estimator
        self.name = name
        self.classes = len(class_names)
        self.named_order = _named_order(estimator, class_names, name)  # None: fitted on 0..K-1
        self._order = self.named_order or list(range(self.classes))
        self._wants_3d = _wants_3d(estimator)
        self._method(estimator)

    def logits(self, x: Floats) -> Floats:
        """Return logits, (N, K) float32, of series, (N, C, T) float32.

        Raises:
            ShapeError: the series are not (N, C, T).
            ModelError: the estimator gives something other than K finite values a series.
        """
        check_series(x)
        method = self._method(self.estimator)
        series = x.astype(np.float64)  # what estimators are fitted on
        if not self._wants_3d:
            series = series.reshape(len(x), -1)
        try:
            parts = [method(series[i : i + _BATCH]) for i in range(0, len(series), _BATCH)]
        except Exception as error:
            raise ModelError(
                f"The teacher {self.name} cannot take series of shape {x.shape} (N, C, T): "
                f"{describe_error(error)}. Fit it on series of this shape."
            ) from error
        scores = np.concatenate(parts).astype(np.float32)
        check_logits(scores, name=self.name, count=len(x), classes=self.classes)
        return np.ascontiguousarray(scores[:, self._order])

    def _method(self, estimator: Any) -> Callable[[Doubles], Floats]:
        source = _behind_votes(estimator)
        if _only_votes(source):
            decider = _Decider(source)
            return lambda series: _two_columns(decider.decision_function(series))
        if hasattr(source, "predict_proba"):
            return lambda series: log_probabilities(source.predict_proba(series))
        if hasattr(source, "decision_function"):
            return lambda series: _two_columns(source.decision_function(series))
        raise ModelError(
            f"The estimator {self.name} is a {type(estimator).__name__}, which has neither "
            "predict_proba nor decision_function. Take a classifier that has one."
        )


def _behind_votes(estimator: Any) -> Any:
    """Return the pipeline inside aeon's ROCKET and Hydra classifiers where they vote one-hot."""
    from sklearn.pipeline import Pipeline  # takes a second, and most teachers are no estimators

    for name in ("pipeline_", "clf_"):
        inner = getattr(estimator, name, None)
        if isinstance(inner, Pipeline) and not hasattr(inner, "predict_proba"):
            return inner
    return estimator


def _only_votes(estimator: Any) -> bool:
    """Return whether an aeon classifier only votes where its last part has decision values."""
    from aeon.classification import BaseClassifier  # as above

    last = getattr(estimator, "classifier", None)
    return (
        isinstance(estimator, BaseClassifier)
        and type(estimator)._predict_proba is BaseClassifier._predict_proba
        and hasattr(last, "decision_function")
    )


class _Decider:
    """The decision function of an aeon classifier that only votes (MultiROCKET-Hydra)."""

    def __init__(self, estimator: Any) -> None:
        self._estimator = copy.copy(estimator)
        self._estimator.classifier = self
        self._last = estimator.classifier

    def decision_function(self, series: Doubles) -> Doubles:
        """Return the decision values of series, (N, C, T) -> (N,) or (N, K)."""
        values: Doubles = self._estimator._predict(series)
        return values

    def predict(self, features: Doubles) -> Doubles:
        """Return the decision values of features, in the place of a prediction."""
        values: Doubles = self._last.decision_function(features)
        return values


def _wants_3d(estimator: Any) -> bool:
    from aeon.base import BaseCollectionEstimator  # as above
    from sklearn.pipeline import Pipeline

    first = estimator.steps[0][1] if isinstance(estimator, Pipeline) else estimator
    return isinstance(first, BaseCollectionEstimator)


def _two_columns(decision: Doubles) -> Floats:
    """Return one column for each class; a binary decision, (N,), becomes two that differ by it."""
    if decision.ndim == 1:
        decision = np.stack([-decision / 2, decision / 2], axis=1)
    return decision.astype(np.float32)


def _named_order(estimator: Any, class_names: Sequence[str], name: str) -> list[int] | None:
    """Return, for each of our classes, its column in the output; None for 0..K-1 without names."""
    fitted = getattr(estimator, "classes_", None)
    if fitted is None:
        raise ModelError(
            f"The estimator {name} is a {type(estimator).__name__} without classes_: it is not "
            "fitted, or no classifier. Fit it before you save it."
        )
    labels = [v.decode("utf-8", "replace") if isinstance(v, bytes) else str(v) for v in fitted]
    with suppress(UsageError):
        return column_order(labels, class_names)
    numbers = [str(index) for index in range(len(class_names))]
    with suppress(UsageError):
        if column_order(labels, numbers) == list(range(len(class_names))):
            return None
    raise ModelError(
        f"The estimator {name} knows the classes {labels}; the data set has {list(class_names)}. "
        "Fit it on these names, or on 0, 1, ... in their order."
    )
