"""NPZ files: the series that the workstation would read, or a reason."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest

from edgedistill.data.npz_files import read_npz
from edgedistill.device.predict import npz_input
from edgedistill.device.predict.npz_input import npz_items
from edgedistill.errors import DataError, ShapeError


def _file(**arrays: np.ndarray) -> io.BytesIO:
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    return stream


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
def test_padding_is_told_from_gaps_as_on_the_workstation(gap, tmp_path: Path, rng):
    """NaN at the ends alone are padding; with one elsewhere they are missing values."""
    x = rng.normal(size=(4, 1, 8))
    x[1, :, 5:] = np.nan
    if gap:
        x[3, :, 2] = np.nan
    np.savez(tmp_path / "x.npz", x=x, y=np.arange(4))

    with (tmp_path / "x.npz").open("rb") as stream:
        items = list(npz_items(stream, channels=1))

    for item, expected in zip(items, read_npz(tmp_path / "x.npz").series, strict=True):
        np.testing.assert_allclose(item.series, expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("arrays", "error", "told"),
    [
        ({"y": np.zeros(3)}, DataError, "'y', but no x"),
        ({"x": np.array(["a"])}, DataError, "not numbers"),
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
    monkeypatch.setattr(npz_input, "MAX_VALUES", 10)

    with pytest.raises(ShapeError, match="at most 10 values"):
        list(npz_items(_file(x=np.zeros((2, 11))), channels=1))
