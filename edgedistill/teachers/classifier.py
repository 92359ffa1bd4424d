"""What a classifier's outputs are: logits or probabilities; and a classifier of probabilities."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from edgedistill.errors import ModelError, ShapeError
from edgedistill.io.arrays import Floats
from edgedistill.saliency.classifier import Classifier

EPSILON = 1e-6  # added to a probability before its logarithm; a class ruled out gets -13.8
_SUM_TOLERANCE = 0.05  # of a row of probabilities that are rounded, or 8-bit numbers
_SIGMOID_RANGE = 0.75  # between the surest values; small logits of one sign reach less far
_EQUAL_SUMS = 1e-3  # of the sum of each row, where all are in percent, or count votes

_LOGITS_NEEDED = (
    "Give the logits before the sigmoid or softmax. If these are logits, subtract a constant, so "
    "that some are negative; it changes no prediction."
)
_LIBRARIES = {"site-packages", "dist-packages", "edgedistill", "importlib"}

OutputKind: TypeAlias = Literal["logits", "probabilities"]
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
        """Return logits, (N, K) float32, of series, (N, C, T) float32.

        Raises:
            ModelError: a row is no distribution.
        """
        outputs = self.inner.logits(x)
        if not _are_probabilities(outputs):
            raise ModelError(
                f"The teacher {self.name} gives probabilities for the series that it was tried on; "
                f"for others its values are {_span(outputs)}, and their rows sum to "
                f"{_span(outputs.sum(axis=1))}. {_LOGITS_NEEDED}"
            )
        return log_probabilities(outputs)


def log_probabilities(probabilities: npt.NDArray[np.floating]) -> Floats:
    """Return log(p + 1e-6) as float32; softmax turns it back into p.

    >>> log_probabilities(np.array([[0.0, 1.0]])).round(1).tolist()
    [[-13.800000190734863, 0.0]]
    """
    return np.log(np.asarray(probabilities, dtype=np.float64) + EPSILON).astype(np.float32)


def output_kind(outputs: Floats, name: str) -> OutputKind:
    """Tell logits from probabilities; logarithms of probabilities are logits.

    Args:
        outputs: outputs of several real series, (N, K), K at least 2.
        name: name of the classifier, for the message.

    Raises:
        ModelError: they are neither: sigmoids of each class, percent, counts of votes.

    >>> output_kind(np.float32([[0.25, 0.75], [0.5, 0.5]]), "net")
    'probabilities'
    >>> output_kind(np.float32([[-1, 2], [3, 1]]), "net")
    'logits'
    """
    if outputs.min() < 0:
        return "logits"
    if _are_probabilities(outputs):
        return "probabilities"
    sums = outputs.sum(axis=1)
    start = f"The teacher {name} gives values of {_span(outputs)} whose rows sum to {_span(sums)}"
    if outputs.max() <= 1 and np.ptp(outputs) >= _SIGMOID_RANGE:
        raise ModelError(
            f"{start}: a sigmoid of each class, as of a model of several labels at once, is "
            f"neither a logit nor a probability among classes. {_LOGITS_NEEDED}"
        )
    if outputs.max() > 1 and np.ptp(sums) <= _EQUAL_SUMS * sums.max():
        raise ModelError(
            f"{start}: these are probabilities in percent, or counts of votes. Divide them by that "
            "sum, or give the logits."
        )
    return "logits"


def single_kind(column: Floats) -> OutputKind:
    """Tell logits of the second of two classes, (N, 1), from its probabilities.

    >>> single_kind(np.float32([[0.25], [1]])), single_kind(np.float32([[0.25], [2]]))
    ('probabilities', 'logits')
    """
    return "probabilities" if bool(((column >= 0) & (column <= 1)).all()) else "logits"


def _are_probabilities(outputs: Floats) -> bool:
    sums_to_one = np.abs(outputs.sum(axis=1) - 1) <= _SUM_TOLERANCE
    return bool((outputs >= 0).all() and sums_to_one.all())


def _span(values: Floats) -> str:
    low, high = f"{values.min():.3g}", f"{values.max():.3g}"
    return low if low == high else f"{low} to {high}"


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
    if np.isneginf(outputs).any() and not (np.isnan(outputs) | np.isposinf(outputs)).any():
        raise ModelError(
            f"The teacher {name} gives logits of minus infinity, the logarithm of a probability of "
            "0. Give log(p + 1e-6) instead, or the logits before the softmax."
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
