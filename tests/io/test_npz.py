"""NPZ files from elsewhere: NumPy's are read, those that lie are refused before memory is taken."""

from __future__ import annotations

import io
import tracemalloc
import zipfile
from contextlib import contextmanager

import numpy as np
import pytest

from edgedistill.errors import DataError
from edgedistill.io.npz import read_npz

ARRAYS = {
    "reals": np.arange(12, dtype=np.float32).reshape(3, 4),
    "columns": np.asfortranarray(np.arange(6, dtype=np.int64).reshape(2, 3)),
    "big end": np.arange(3, dtype=">f8"),
    "texts": np.array(["winter", "sömmer"]),
    "truths": np.array([[True], [False]]),
    "none": np.empty((0, 3), dtype=np.float16),
    "one": np.array(7),
}


def _header(shape, *, descr="<f4", fortran=False):
    stream = io.BytesIO()
    np.lib.format.write_array_header_2_0(
        stream, {"descr": descr, "fortran_order": fortran, "shape": shape}
    )
    return stream.getvalue()


def _npz(path, members, *, method=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_what_numpy_wrote_is_read(save, tmp_path):
    """The same names, types and values as NumPy's own reader gives, from a file and a stream."""
    save(tmp_path / "a.npz", **ARRAYS)

    found = read_npz(tmp_path / "a.npz")
    with (tmp_path / "a.npz").open("rb") as stream:
        streamed = read_npz(stream)

    with np.load(tmp_path / "a.npz") as expected:
        assert set(found) == set(streamed) == set(expected.files)
        for name, array in expected.items():
            assert found[name].dtype == array.dtype
            assert found[name].flags.writeable
            np.testing.assert_array_equal(found[name], array)
            np.testing.assert_array_equal(streamed[name], array)


@pytest.mark.parametrize(
    ("member", "message"),
    [
        (_header((1 << 40,)), r"claims shape \(1099511627776,\) of float32"),
        (_header((3,)) + bytes(8), "12 bytes; 136 are there"),
        (_header((2,)) + bytes(12), "8 bytes; 140 are there"),
        (_header((1,), descr="|O") + b"x", r"holds object of shape \(1,\), not plain"),
        (_header((1,), descr=[("a", "<f4")]) + bytes(4), "not plain numbers"),
        (_header((1 << 40,), descr="<U0"), "not plain numbers"),
        (_header((-1,)), "not plain numbers"),
        (_header((True,)) + bytes(4), "not plain numbers"),
        (_header((1,) * 70) + bytes(4), "maximum supported dimension"),
        (_header((0, 1 << 62)), "array is too big|[Mm]aximum allowed dimension|too large"),
        (b"\x93NUMPY\x03\x00" + bytes(8), r"version \(3, 0\)"),
        (b"\x93NUMPY\x02\x00\x04\x00\x00\x00((((", "no NPZ of plain arrays"),
        (b"\x93NUMPY\x02\x00\x04\x00\x00\x00{1:(", "no NPZ of plain arrays"),
        (b"no array", "magic string is not correct"),
    ],
    ids=[
        *("huge", "cut", "too long", "pickle", "fields", "no size", "negative", "truth"),
        *("axes", "empty and huge", "version", "parentheses", "tokens", "magic"),
    ],
)
def test_arrays_with_false_headers_are_refused(member, message, tmp_path):
    """A header is believed only where the bytes are there."""
    path = _npz(tmp_path / "a.npz", {"x.npy": member})

    with pytest.raises(DataError, match=message):
        read_npz(path)


def test_claimed_shape_takes_no_memory(tmp_path):
    """NumPy's own reader makes room for it before it looks at the data, which shows the measure."""
    path = _npz(tmp_path / "x.npz", {"x.npy": _header((1 << 26,))})

    with pytest.raises(DataError, match="claims shape"), _peak_below(1 << 20):
        read_npz(path)
    with pytest.raises(AssertionError, match="bytes were taken"), _peak_below(1 << 20):
        np.load(path)["x"]


@contextmanager
def _peak_below(most):
    tracemalloc.start()
    try:
        yield
    finally:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < most, f"{peak} bytes were taken"


def test_a_bomb_is_refused(tmp_path):
    """A thousandfold of zeros is not unpacked."""
    content = _header((1 << 20,)) + bytes(4 << 20)
    path = _npz(tmp_path / "a.npz", {"x.npy": content}, method=zipfile.ZIP_DEFLATED)

    with pytest.raises(DataError, match="claim to hold"):
        read_npz(path)


@pytest.mark.parametrize(
    ("name", "method", "message"),
    [
        ("x.npy", zipfile.ZIP_LZMA, "compressed in a way that NumPy does not use"),
        ("x.txt", zipfile.ZIP_STORED, "is no array"),
    ],
)
def test_members_that_numpy_does_not_write_are_refused(name, method, message, tmp_path):
    """Another compression, another file."""
    path = _npz(tmp_path / "a.npz", {name: _header((1,)) + bytes(4)}, method=method)

    with pytest.raises(DataError, match=message):
        read_npz(path)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_an_array_that_stands_twice_is_refused(tmp_path):
    """Which one would count is anybody's guess."""
    path = tmp_path / "a.npz"
    with zipfile.ZipFile(path, "w") as archive:
        for _ in range(2):
            archive.writestr("x.npy", _header((1,)) + bytes(4))

    with pytest.raises(DataError, match="stands in it twice"):
        read_npz(path)


def test_damaged_data_is_refused(tmp_path):
    """A checksum is compared even where every byte that was asked for is there."""
    np.savez(tmp_path / "a.npz", x=np.full(100, 7.0))
    content = (tmp_path / "a.npz").read_bytes()
    (tmp_path / "a.npz").write_bytes(content.replace(np.array(7.0).tobytes(), bytes(8), 1))

    with pytest.raises(DataError, match="Bad CRC-32"):
        read_npz(tmp_path / "a.npz")


def test_what_is_no_zip_or_not_there_is_refused(tmp_path):
    """The message names the file."""
    (tmp_path / "a.npz").write_bytes(b"no zip")

    with pytest.raises(DataError, match=r"a\.npz is no NPZ of plain arrays: File is not a zip"):
        read_npz(tmp_path / "a.npz")
    with pytest.raises(DataError, match=r"b\.npz is no NPZ of plain arrays: .*No such file"):
        read_npz(tmp_path / "b.npz")
