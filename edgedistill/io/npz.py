"""NPZ files from elsewhere: every size is checked before memory is taken, nothing is unpickled.

NumPy's own reader takes memory for whatever shape a header claims, and unpacks a member however
far it grows. NumPy and the standard library only.
"""

from __future__ import annotations

import io
import math
import zipfile
from collections.abc import Collection, Sequence
from pathlib import Path
from tokenize import TokenError
from typing import IO, cast

import numpy as np
from numpy.lib import format as npy

from edgedistill.errors import DataError
from edgedistill.io import archives
from edgedistill.io.arrays import AnyArray

_SUFFIX = ".npy"
_KINDS = "biufSU"  # truth values, whole and real numbers, text
_UNREADABLE = (
    *archives.DAMAGE,
    OSError,
    TypeError,  # what a strange header makes of NumPy's reader, with the three below
    OverflowError,
    SyntaxError,
    TokenError,
    RecursionError,
    MemoryError,  # a header nested deeper than Python's parser goes
)


def npz_names(source: Path | IO[bytes]) -> list[str]:
    """Return the names of the arrays of an NPZ file; what they hold is not looked at.

    Raises:
        DataError: it cannot be read, or is no NPZ.
    """
    try:
        with zipfile.ZipFile(source) as archive:
            return [name.removesuffix(_SUFFIX) for name in archive.namelist()]
    except _UNREADABLE as error:
        raise _no_npz(source, error) from error


def read_npz(
    source: Path | IO[bytes],
    *,
    only: Collection[str] | None = None,
    is_bounded: bool = True,
) -> dict[str, AnyArray]:
    """Return the arrays of an NPZ file by their names.

    Args:
        source: a file, or a stream that can be sought.
        only: names of the arrays to read, those that are there; None for all.
        is_bounded: whether to refuse more than an archive from elsewhere may hold; not for the
            user's own training data.

    Raises:
        DataError: it cannot be read, is no NPZ, or an array is damaged, of a kind other than
            numbers and text, or larger than what is there of it.
    """
    try:
        with zipfile.ZipFile(source) as archive:
            members = archive.infolist()
            _check_sizes(members, _size(archive), is_bounded)
            named = {member.filename.removesuffix(_SUFFIX): member for member in members}
            return {
                name: _array(archive, member)
                for name, member in named.items()
                if only is None or name in only
            }
    except _UNREADABLE as error:
        raise _no_npz(source, error) from error


def _no_npz(source: Path | IO[bytes], error: BaseException) -> DataError:
    where = source if isinstance(source, Path) else "The input"
    return DataError(f"{where} is no NPZ of plain arrays: {error}. Write it with numpy.savez.")


def _size(archive: zipfile.ZipFile) -> int:
    stream = archive.fp
    if stream is None:
        raise ValueError("the file is closed")
    return stream.seek(0, io.SEEK_END)


def _check_sizes(members: Sequence[zipfile.ZipInfo], there: int, is_bounded: bool) -> None:
    names = {member.filename.removesuffix(_SUFFIX) for member in members}
    if len(names) < len(members):
        raise ValueError("an array stands in it twice")
    packed = sum(member.compress_size for member in members)
    total = sum(member.file_size for member in members)
    largest = min(archives.MAX_ARCHIVE_BYTES, archives.MAX_ARCHIVE_RATIO * there)
    if packed > there or (is_bounded and total > largest):
        raise ValueError(f"{there} bytes claim to hold {total}; at most {largest} are read of them")


def _array(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> AnyArray:
    name = member.filename
    if not name.endswith(_SUFFIX) or member.compress_type not in archives.METHODS:
        raise ValueError(f"{name!r} is no array, or compressed in a way that NumPy does not use")
    with cast("io.BufferedIOBase", archive.open(member)) as stream:
        return _read_array(stream, repr(name), member.file_size)


def _read_array(stream: io.BufferedIOBase, name: str, there: int) -> AnyArray:
    """Read an array whose header and contents have `there` bytes."""
    shape, fortran, dtype = _header(stream, name)
    size = math.prod(shape) * dtype.itemsize
    if stream.tell() + size != there:
        raise ValueError(
            f"{name} claims shape {shape} of {dtype}, {size} bytes; {there} are there, with its "
            "header"
        )
    array = np.empty(shape[::-1] if fortran else shape, dtype)
    read = stream.readinto(array.reshape(-1).view(np.uint8).data)
    if read != size or stream.read(1):  # reading to the end has the checksum compared
        raise ValueError(f"{name} ends after {read} of {size} bytes")
    return array.T if fortran else array


def read_npy(source: IO[bytes]) -> AnyArray:
    """Return the array of an `.npy` file.

    Raises:
        DataError: it is no such file, damaged, or of a kind other than numbers and text.
    """
    try:
        start = source.tell()
        size = source.seek(0, io.SEEK_END) - start
        source.seek(start)
        return _read_array(cast("io.BufferedIOBase", source), "The input", size)
    except _UNREADABLE as error:
        raise DataError(
            f"The input is no plain array: {error}. Write it with numpy.save."
        ) from error


def _header(
    stream: io.BufferedIOBase, name: str
) -> tuple[tuple[int, ...], bool, np.dtype[np.generic]]:
    version = npy.read_magic(stream)  # type: ignore[no-untyped-call]  # NumPy has no types for it
    readers = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
    if version not in readers:
        raise ValueError(f"{name} is of version {version} of NumPy's format")
    shape, fortran, dtype = readers[version](stream)  # type: ignore[no-untyped-call]  # as above
    plain = dtype.kind in _KINDS and dtype.itemsize > 0 and dtype.subdtype is None
    if not plain or any(type(steps) is not int or steps < 0 for steps in shape):
        raise ValueError(f"{name} holds {dtype} of shape {shape}, not plain numbers or text")
    return shape, fortran, dtype
