"""Columns of a teacher's output: which class each stands for, and one column for two classes."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite

import numpy as np

from edgedistill.errors import ModelError, UsageError
from edgedistill.io.arrays import Floats, Ints
from edgedistill.saliency.classifier import ChangesFn, Classifier
from edgedistill.teachers.classifier import EPSILON, SoftmaxClassifier


class ReorderedClassifier:
    """A classifier whose columns are put in the order of the data set's classes.

    Args:
        inner: classifier with its columns in an order of its own.
        order: column of the inner classifier for each class, (K,).
    """

    def __init__(self, inner: Classifier, order: Sequence[int]) -> None:
        self.inner = inner
        self.name = inner.name
        self.classes = inner.classes
        self.can_explain = inner.can_explain
        self._order = list(order)

    @property
    def changes(self) -> ChangesFn | None:
        """The inner classifier's way to the logits of perturbed series, if it has one."""
        return None if self.inner.changes is None else self._changes

    def logits(self, x: Floats) -> Floats:
        """Return logits, (N, K) float32, of series, (N, C, T) float32."""
        return np.ascontiguousarray(self.inner.logits(x)[:, self._order])

    def _changes(self, x: Floats, starts: Ints, patches: Floats) -> Floats:
        """Return the change of the logits by each window, (N, W, K) float32."""
        inner = self.inner.changes
        if inner is None:
            raise TypeError(f"{self.name} has no faster way to perturbed series.")
        return np.ascontiguousarray(inner(x, starts, patches)[..., self._order])


class SingleLogitClassifier:
    """A binary classifier of one column: a logit z, or a probability, of the second class.

    A logit becomes the logits -z/2 and z/2, whose softmax is the sigmoid of z; a probability p
    becomes log(1 - p + 1e-6) and log(p + 1e-6).

    Args:
        inner: classifier of one class.
        probabilities: whether its column holds probabilities.
    """

    classes = 2
    changes = None

    def __init__(self, inner: Classifier, *, probabilities: bool) -> None:
        self.inner = inner
        self.name = inner.name
        self.can_explain = inner.can_explain
        self._probabilities = probabilities

    def logits(self, x: Floats) -> Floats:
        """Return logits, (N, 2) float32, of series, (N, C, T) float32.

        Raises:
            ModelError: a probability does not lie in 0 to 1.
        """
        column = self.inner.logits(x).astype(np.float64)
        if self._probabilities:
            if column.min() < 0 or column.max() > 1:
                raise ModelError(
                    f"The one column of {self.name} lies in 0 to 1 for the series it was tried on, "
                    f"so it was taken for a probability; for others it is {column.min():.3g} to "
                    f"{column.max():.3g}. If it is a logit, give (N, 2): zeros and this column."
                )
            logits = np.log(np.hstack([1 - column, column]) + EPSILON)
        else:
            logits = np.hstack([-column / 2, column / 2])
        return logits.astype(np.float32)


def unwrapped(teacher: Classifier) -> Classifier:
    """Return the classifier that computes, without those that only rearrange its output."""
    while isinstance(teacher, SoftmaxClassifier | ReorderedClassifier | SingleLogitClassifier):
        teacher = teacher.inner
    return teacher


def column_order(columns: Sequence[str], class_names: Sequence[str]) -> list[int]:
    """Return the column of each class.

    Args:
        columns: class names of the teacher, in the order of its columns.
        class_names: class names of the data set, in the order of its labels.

    Raises:
        UsageError: the two do not name the same classes, once each.

    >>> column_order(["walk", "run"], ["run", "walk"]), column_order(["2", "1.0"], ["1", "2"])
    ([1, 0], [1, 0])
    """
    keys, needed = [_key(name) for name in columns], [_key(name) for name in class_names]
    if sorted(keys, key=str) != sorted(needed, key=str):
        missing = [name for name in class_names if _key(name) not in keys]
        unknown = [name for name in columns if _key(name) not in needed]
        twice = sorted({name for name in columns if keys.count(_key(name)) > 1})
        groups = (("without", missing), ("with the unknown", unknown), ("twice with", twice))
        faults = [f"{what} {', '.join(names)}" for what, names in groups if names]
        raise UsageError(
            f"teacher.class_names lists {', '.join(columns)}, {' and '.join(faults)}. The data set "
            f"has the classes {', '.join(class_names)}: name each once, in the order of the "
            "teacher's columns."
        )
    return [keys.index(key) for key in needed]


def _key(name: str) -> str | float:
    """Return a number for a number, so that 1 and 1.0 are one class, as in data sets."""
    try:
        number = float(name)
    except ValueError:
        return name
    return number if isfinite(number) else name
