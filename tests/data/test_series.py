"""A RawSeries and a Source are valid once they are built."""

from __future__ import annotations

import numpy as np
import pytest

from edgedistill.data import RawSeries, Source
from edgedistill.data.series import spread_per_class
from edgedistill.errors import DataError, ShapeError


def _raw(labels, channels=1, origin="set", rate=None):
    series = [np.arange(4.0 * channels, dtype=np.float32).reshape(channels, 4) for _ in labels]
    return RawSeries(series=series, labels=list(labels), origin=origin, sample_rate_hz=rate)


def test_number_of_labels_and_series_must_match():
    """One label too few would shift all that follow."""
    with pytest.raises(ShapeError, match="set has 1 series but 2 labels"):
        RawSeries(series=_raw("a").series, labels=["a", "b"], origin="set")


def test_series_are_checked_when_built():
    """By the checks of preprocessing; the message has the file."""
    with pytest.raises(DataError, match="set holds no series"):
        _raw("")


def test_one_class_is_refused():
    """A classifier needs two."""
    with pytest.raises(DataError, match="set has one class only, 'a'"):
        Source(name="x", train=_raw("aaa"), test=None)


def test_labels_that_train_lacks_are_refused():
    """No teacher can learn them."""
    with pytest.raises(
        DataError, match=r"other has the labels 'c', 'd', which set lacks .*'a', 'b'"
    ):
        Source(name="x", train=_raw("ab"), test=_raw("adc", origin="other"))


@pytest.mark.parametrize(
    ("test", "message"),
    [
        (_raw("ab", channels=2, origin="other"), "channels is 1 in set, but 2 in other"),
        (_raw("ab", origin="other", rate=8000), "sample_rate_hz is None in set, but 8000 in other"),
    ],
)
def test_train_and_test_must_match(test, message):
    """In channels and sample rate."""
    with pytest.raises(ShapeError, match=message):
        Source(name="x", train=_raw("ab"), test=test)


def test_limit_is_spread_over_each_class():
    """Evenly, not the first ones, in the order of the file."""
    labels = ["a"] * 10 + ["b"] * 3

    assert spread_per_class(labels, 3) == [0, 4, 9, 10, 11, 12]
    assert spread_per_class(labels, 1) == [0, 10]
    assert spread_per_class(labels, 99) == list(range(13))


def test_labels_that_are_equal_as_numbers_are_refused():
    """Whether 007 and 7 are one class cannot be told."""
    with pytest.raises(DataError, match="labels '007' and '7', which are equal as numbers"):
        Source(name="x", train=_raw(["7", "007"]), test=None)
