"""NPZ files of plain arrays are read; objects are never loaded."""

from __future__ import annotations

import numpy as np
import pytest

from edgedistill.data import readers
from edgedistill.errors import DataError, ShapeError
from edgedistill.formats.schema import Roles

Y = np.array([0, 1])


def read_npz(path):
    """Read training series."""
    return readers.read_npz(path, Roles())


@pytest.fixture
def save(tmp_path):
    """Save arrays and return the file's path."""

    def _save(**arrays):
        path = tmp_path / "toys.npz"
        np.savez(path, **arrays)
        return path

    return _save


@pytest.mark.parametrize("shape", [(2, 3, 5), (2, 5)], ids=str)
def test_grid_is_read(shape, save, rng):
    """(N, C, T) as it is, (N, T) with one channel."""
    x = rng.normal(size=shape)

    raw = read_npz(save(x=x, y=Y, note="anything else is left alone"))

    np.testing.assert_array_equal(np.stack(raw.series), x.reshape(2, -1, 5).astype(np.float32))
    assert raw.labels == ["0", "1"]
    assert raw.remarks == ("Nothing uses the array 'note'.",)


@pytest.mark.parametrize("y", [["up", "down"], np.array([b"up", b"down"])], ids=["text", "bytes"])
def test_labels_may_be_text(y, save):
    """Names are kept."""
    assert read_npz(save(x=np.ones((2, 4)), y=y)).labels == ["up", "down"]


def test_whole_float_labels_become_integers(save):
    """Arrays often turn whole numbers into floats."""
    assert read_npz(save(x=np.ones((2, 4)), y=np.array([1.0, 2.0]))).labels == ["1", "2"]


def test_nan_at_the_end_is_padding(save):
    """Unequal lengths in a grid."""
    x = np.array([[1, 2, 3, np.nan], [1, 2, 3, 4]])

    assert [one.shape for one in read_npz(save(x=x, y=Y)).series] == [(1, 3), (1, 4)]


def test_offsets_split_one_long_array(save):
    """Unequal lengths without padding."""
    values = np.arange(10.0).reshape(5, 2)

    raw = read_npz(save(values=values, offsets=np.array([0, 2, 5]), y=Y))

    assert [one.tolist() for one in raw.series] == [[[0, 2], [1, 3]], [[4, 6, 8], [5, 7, 9]]]


@pytest.mark.parametrize(
    ("offsets", "width"),
    [([0, 2, 4], 2), ([1, 2, 5], 2), ([0, 6, 5], 2), ([0.0, 2.0, 5.0], 2), ([[0, 5]], 2)],
    ids=str,
)
def test_invalid_offsets_are_refused(offsets, width, save):
    """They must rise from 0 to the number of steps."""
    with pytest.raises(ShapeError, match=r"values has shape \(5, 2\) and offsets"):
        read_npz(save(values=np.ones((5, width)), offsets=np.array(offsets), y=Y))


@pytest.mark.parametrize(
    ("arrays", "error", "message"),
    [
        ({"data": np.ones((2, 4)), "y": Y}, DataError, "holds data, y; needed is x"),
        ({"x": np.ones((2, 4))}, DataError, "holds no y"),
        ({}, DataError, "holds nothing; needed is"),
        ({"x": np.ones((2, 4)), "y": np.array([{}, 1])}, DataError, "not plain numbers or text"),
        ({"x": np.array([["a", "b"]] * 2), "y": Y}, DataError, "x has the type <U1, not numbers"),
        ({"x": np.ones(4), "y": Y}, ShapeError, r"x has shape \(4,\)"),
        ({"x": np.ones((2, 4)), "y": Y[:, None]}, ShapeError, r"y has shape \(2, 1\)"),
        ({"x": np.ones((3, 4)), "y": Y}, ShapeError, "has 3 series but 2 labels"),
        ({"x": np.ones((2, 4)), "y": np.array([1, np.nan])}, DataError, "has no label"),
        ({"x": np.full((2, 4), np.nan), "y": Y}, DataError, "only NaN"),
        ({"x": np.full((2, 4), 1e99), "y": Y}, DataError, "float32 cannot hold"),
    ],
)
def test_error_of_unusable_arrays_has_the_reason(arrays, error, message, save):
    """The message has the name of the array and its type or shape."""
    with pytest.raises(error, match=message):
        read_npz(save(**arrays))


def test_npy_file_is_refused(tmp_path):
    """np.save writes one array without a name."""
    path = tmp_path / "toys.npz"
    with path.open("wb") as stream:
        np.save(stream, np.ones((2, 4)))

    with pytest.raises(DataError, match="is no NPZ of plain arrays"):
        read_npz(path)


def _marked_as_encrypted(whole):
    """Set the flag in the archive's first directory entry."""
    at = whole.index(b"PK\x01\x02") + 8
    return whole[:at] + bytes([whole[at] | 1]) + whole[at + 1 :]


@pytest.mark.parametrize(
    "damage",
    [
        lambda _: b"",
        lambda _: b"no zip",
        lambda whole: whole[: len(whole) // 2],
        lambda whole: whole[:900] + bytes([whole[900] ^ 255]) + whole[901:],
        _marked_as_encrypted,
    ],
    ids=["empty", "foreign", "cut off", "a changed byte", "marked as encrypted"],
)
def test_damaged_file_is_refused(damage, save, rng):
    """Any error of NumPy and zipfile becomes ours."""
    path = save(x=rng.normal(size=(2, 500)), y=Y)
    whole = path.read_bytes()
    assert damage(whole) != whole
    path.write_bytes(damage(whole))

    with pytest.raises(DataError, match="is no NPZ of plain arrays"):
        read_npz(path)


def test_error_of_a_missing_file_has_its_path(tmp_path):
    """The path is in the message."""
    with pytest.raises(DataError, match=r"none\.npz.*No such file"):
        read_npz(tmp_path / "none.npz")
