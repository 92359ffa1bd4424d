"""Checks of the logits that a classifier gives, and a classifier of probabilities."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edgedistill.errors import ModelError, ShapeError
from edgedistill.io.arrays import Floats
from edgedistill.saliency.classifier import Classifier

EPSILON = 1e-6  # added to a probability before its logarithm; a class ruled out gets -13.8
_SUM_TOLERANCE = 1e-3  # of a row of float16 probabilities

_LIBRARIES = {"site-packages", "dist-packages", "edgedistill", "importlib"}

NoteCallback = Callable[[str], None]  # a sentence: how something of a teacher was understood


def ignore_notes(note: str) -> None:
    """Report nothing."""


class SoftmaxClassifier:
    """A classifier that ends in a softmax: its logits are the logarithms of its probabilities.

    A probability that float32 rounds to 0 or 1 has lost the logit behind it, so the network without
    its softmax is the better teacher.
    """

    changes = None

    def __init__(self, inner: Classifier) -> None:
        self.inner = inner
        self.name = inner.name
        self.classes = inner.classes
        self.can_explain = inner.can_explain

    def logits(self, x: Floats) -> Floats:
        """Return logits, (N, K) float32, of series, (N, C, T) float32."""
        return log_probabilities(self.inner.logits(x))


def log_probabilities(probabilities: npt.NDArray[np.floating]) -> Floats:
    """Return log(p + 1e-6) as float32; softmax turns it back into p.

    >>> log_probabilities(np.array([[0.0, 1.0]])).round(1).tolist()
    [[-13.800000190734863, 0.0]]
    """
    return np.log(np.asarray(probabilities, dtype=np.float64) + EPSILON).astype(np.float32)


def are_probabilities(outputs: Floats) -> bool:
    """Return whether every row, (N, K), is a distribution; logits practically never are.

    >>> are_probabilities(np.float32([[0.25, 0.75]])), are_probabilities(np.float32([[-1, 2]]))
    (True, False)
    """
    sums_to_one = np.abs(outputs.sum(axis=1) - 1) <= _SUM_TOLERANCE
    return bool((outputs >= 0).all() and sums_to_one.all())


def check_series(x: Floats) -> None:
    """Raise ShapeError unless the series are (N, C, T) with at least one of each."""
    if x.ndim != 3 or 0 in x.shape:
        raise ShapeError(
            f"A teacher takes series of shape (N, C, T), got {x.shape}. "
            "Give each axis its place and at least one entry."
        )


def check_logits(outputs: Floats, *, name: str, count: int, classes: int) -> None:
    """Raise ModelError unless the outputs are one finite logit a series and class.

    Args:
        outputs: output of the classifier.
        name: name of the classifier, for the message.
        count: N, number of the series.
        classes: K, number of classes of the data.
    """
    if outputs.shape != (count, classes):
        raise ModelError(
            f"The teacher {name} gives an output of shape {outputs.shape} for {count} series; the "
            f"data set has {classes} classes, so ({count}, {classes}) is needed. "
            "Take a teacher of this data set."
        )
    if not np.isfinite(outputs).all():
        bad = int((~np.isfinite(outputs)).any(axis=1).sum())
        raise ModelError(
            f"The teacher {name} gives NaN or infinite logits for {bad} of {count} series. "
            "Check its weights and the normalization it was trained with."
        )


def describe_error(error: BaseException) -> str:
    """Return an error of somebody else's code in one line, with the last place in that code."""
    frames = traceback.extract_tb(error.__traceback__)
    places = [
        frame
        for frame in frames
        if not frame.filename.startswith("<")  # <frozen importlib._bootstrap>
        and not _LIBRARIES.intersection(Path(frame.filename).parts)
    ]
    place = f" ({Path(places[-1].filename).name}, line {places[-1].lineno})" if places else ""
    text = " ".join(str(error).split()).rstrip(".")
    return f"{type(error).__name__}{f': {text}' if text else ''}{place}"
