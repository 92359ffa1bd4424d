"""Files and pipes give the same items, and no more is read than is needed."""

from __future__ import annotations

import io
import os
import threading
from pathlib import Path

import numpy as np
import pytest

from edgedistill.data.readers import read_npz
from edgedistill.device.predict import readers
from edgedistill.device.predict import readers as reading
from edgedistill.device.predict.inputs import Item
from edgedistill.device.predict.predictor import SlidingWindows
from edgedistill.device.predict.readers import npz_items, series_items, window_items
from edgedistill.errors import DataError, ShapeError
from edgedistill.formats.schema import Roles


def test_lines_with_a_bad_one():
    """A bad line has its number; the others are read."""
    items = list(series_items(_stream(b"1,2\n\nx,1\n[3, 4]"), 1))

    assert [item.place["line"] for item in items] == [1, 3, 4]
    assert [item.error is None for item in items] == [True, False, True]


@pytest.mark.parametrize("content", [b"", b"\n\n"])
def test_nothing(content):
    """Nothing comes of nothing."""
    assert list(series_items(_stream(content), 1)) == []


def test_npz_is_recognized_by_its_first_bytes(rng):
    """The name does not matter."""
    x = rng.normal(size=(3, 1, 5))

    items = list(series_items(_stream(_npz(x)), 1))

    np.testing.assert_array_equal([item.series for item in items], x)


@pytest.mark.parametrize("first", [1, 1_000])
def test_npz_through_a_pipe(first, rng):
    """A pipe cannot be read twice, so it is copied; one byte at first does not mislead."""
    x = rng.normal(size=(300, 1, 5))

    with _piped(_npz(x), first) as stream:
        items = list(series_items(stream, 1))

    np.testing.assert_array_equal([item.series for item in items], x)


def test_npz_through_a_pipe_is_bounded(monkeypatch, rng):
    """A pipe can go on for ever."""
    monkeypatch.setattr(reading, "MAX_PIPED_BYTES", 1_000)

    with (
        _piped(_npz(rng.normal(size=(300, 5))), 10) as stream,
        pytest.raises(DataError, match="more than 1000 bytes"),
    ):
        list(series_items(stream, 1))


def test_a_line_is_read_as_soon_as_it_is_there():
    """The next is not waited for: a sensor may send one an hour."""
    out, into = os.pipe()
    with os.fdopen(out, "rb") as stream, os.fdopen(into, "wb", buffering=0) as sink:
        items = series_items(stream, 1)
        sink.write(b"1,2\n")

        first = next(items)

    np.testing.assert_array_equal(first.series, [[1, 2]])


def test_windows_with_a_bad_line():
    """It is an error and a missing step: the next window starts where it would have."""
    content = b"x\n1\n2\nbad\n4\n5\n6\n7"

    items = list(window_items(_stream(content), 1, SlidingWindows(1, 3, 3)))

    assert [dict(item.place) for item in items] == [{"line": 4}, {"start": 0}, {"start": 3}]
    assert items[0].error is not None
    np.testing.assert_array_equal(items[1].series, [[1, 2, np.nan]])
    np.testing.assert_array_equal(items[2].series, [[4, 5, 6]])
    assert all(isinstance(item, Item) for item in items)


@pytest.mark.parametrize("kind", [np.float64, np.float32, np.float16, np.int16, bool])
@pytest.mark.parametrize("order", ["C", "F"])
def test_series_in_their_order(kind, order, rng):
    """Every number type, rows or columns first; the place counts from 0."""
    x = rng.integers(0, 2, size=(5, 2, 7)).astype(kind)

    items = list(npz_items(_file(x=np.asarray(x, order=order)), channels=2))

    assert [item.place for item in items] == [{"row": row} for row in range(5)]
    np.testing.assert_array_equal([item.series for item in items], x)


def test_two_axes_are_one_channel(rng):
    """(N, T) as a table would have it."""
    x = rng.normal(size=(3, 9))

    items = list(npz_items(_file(x=x), channels=1))

    np.testing.assert_array_equal([item.series for item in items], x[:, None])


@pytest.mark.parametrize("gap", [False, True])
def test_trailing_nan_is_padding_unless_there_are_gaps(gap, tmp_path: Path, rng):
    """NaN at the ends alone are padding; with one elsewhere they are missing values."""
    x = rng.normal(size=(4, 1, 8))
    x[1, :, 5:] = np.nan
    if gap:
        x[3, :, 2] = np.nan
    np.savez(tmp_path / "x.npz", x=x, y=np.arange(4))

    with (tmp_path / "x.npz").open("rb") as stream:
        items = list(npz_items(stream, channels=1))

    for item, expected in zip(items, read_npz(tmp_path / "x.npz", Roles()).series, strict=True):
        np.testing.assert_allclose(item.series, expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("arrays", "error", "told"),
    [
        ({"y": np.zeros(3)}, DataError, "holds y; needed is x"),
        ({"x": np.array([["a"]])}, DataError, "not numbers"),
        ({"x": np.array([None, {}], dtype=object)}, DataError, "object"),
        ({"x": np.zeros((2, 3, 4))}, ShapeError, r"takes \(N, 1, T\) or \(N, T\)"),
        ({"x": np.zeros(4)}, ShapeError, r"shape \(4,\)"),
    ],
    ids=["no x", "text", "pickle", "channels", "axes"],
)
def test_unusable_files(arrays, error, told):
    """The message says what is there and what is needed."""
    with pytest.raises(error, match=told):
        list(npz_items(_file(**arrays), channels=1))


def test_a_damaged_file():
    """Cut in the middle, it is no file."""
    whole = _file(x=np.zeros((50, 30))).getvalue()

    with pytest.raises(DataError, match="no NPZ"):
        list(npz_items(io.BytesIO(whole[: len(whole) // 2]), channels=1))


def test_series_beyond_the_bound(monkeypatch):
    """As for lines."""
    monkeypatch.setattr(readers, "MAX_VALUES", 10)

    with pytest.raises(ShapeError, match="more than 10 values"):
        list(npz_items(_file(x=np.zeros((2, 11))), channels=1))


def _stream(content: bytes) -> io.BufferedReader:
    return io.BufferedReader(io.BytesIO(content))


def _npz(x: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.savez(stream, x=x)
    return stream.getvalue()


def _piped(content: bytes, first: int) -> io.BufferedReader:
    """Return a pipe into which the first bytes come alone."""
    out, into = os.pipe()

    def write() -> None:
        with os.fdopen(into, "wb", buffering=0) as sink:
            sink.write(content[:first])
            sink.write(content[first:])

    threading.Thread(target=write, daemon=True).start()
    return os.fdopen(out, "rb")


def _file(**arrays: np.ndarray) -> io.BytesIO:
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    return stream
