"""NPZ files from elsewhere: every size is checked before memory is taken, nothing is unpickled.

NumPy's own reader takes memory for whatever shape a header claims, and unpacks a member however
far it grows. NumPy and the standard library only.
"""

from __future__ import annotations

import io
import math
import zipfile
from collections.abc import Sequence
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


def read_npz(source: Path | IO[bytes]) -> dict[str, AnyArray]:
    """Return the arrays of an NPZ file by their names.

    Args:
        source: a file, or a stream that can be sought.

    Raises:
        DataError: it cannot be read, is no NPZ, or an array is damaged, of a kind other than
            numbers and text, or larger than what is there of it.
    """
    try:
        with zipfile.ZipFile(source) as archive:
            members = archive.infolist()
            _check_sizes(members, _size(archive))
            return {
                member.filename.removesuffix(_SUFFIX): _array(archive, member) for member in members
            }
    except _UNREADABLE as error:
        where = source if isinstance(source, Path) else "The input"
        raise DataError(
            f"{where} is no NPZ of plain arrays: {error}. Write it with numpy.savez."
        ) from error


def _size(archive: zipfile.ZipFile) -> int:
    stream = archive.fp
    if stream is None:
        raise ValueError("the file is closed")
    return stream.seek(0, io.SEEK_END)


def _check_sizes(members: Sequence[zipfile.ZipInfo], there: int) -> None:
    names = {member.filename.removesuffix(_SUFFIX) for member in members}
    if len(names) < len(members):
        raise ValueError("an array stands in it twice")
    packed = sum(member.compress_size for member in members)
    total = sum(member.file_size for member in members)
    largest = min(archives.MAX_ARCHIVE_BYTES, archives.MAX_ARCHIVE_RATIO * there)
    if packed > there or total > largest:
        raise ValueError(f"{there} bytes claim to hold {total}; at most {largest} are read of them")


def _array(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> AnyArray:
    name = member.filename
    if not name.endswith(_SUFFIX) or member.compress_type not in archives.METHODS:
        raise ValueError(f"{name!r} is no array, or compressed in a way that NumPy does not use")
    with cast("io.BufferedIOBase", archive.open(member)) as stream:
        shape, fortran, dtype = _header(stream, name)
        size = math.prod(shape) * dtype.itemsize
        if stream.tell() + size != member.file_size:
            raise ValueError(
                f"{name!r} claims shape {shape} of {dtype}, {size} bytes; {member.file_size} are "
                "there, with its header"
            )
        array = np.empty(shape[::-1] if fortran else shape, dtype)
        read = stream.readinto(array.reshape(-1).view(np.uint8).data)
        if read != size or stream.read(1):  # reading to the end has the checksum compared
            raise ValueError(f"{name!r} ends after {read} of {size} bytes")
    return array.T if fortran else array


def _header(
    stream: io.BufferedIOBase, name: str
) -> tuple[tuple[int, ...], bool, np.dtype[np.generic]]:
    version = npy.read_magic(stream)  # type: ignore[no-untyped-call]  # NumPy has no types for it
    readers = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
    if version not in readers:
        raise ValueError(f"{name!r} is of version {version} of NumPy's format")
    shape, fortran, dtype = readers[version](stream)  # type: ignore[no-untyped-call]  # as above
    plain = dtype.kind in _KINDS and dtype.itemsize > 0 and dtype.subdtype is None
    if not plain or any(type(steps) is not int or steps < 0 for steps in shape):
        raise ValueError(f"{name!r} holds {dtype} of shape {shape}, not plain numbers or text")
    return shape, fortran, dtype
