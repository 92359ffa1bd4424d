"""Readers of `predict`: items from a file or a pipe, one at a time.

Only as much is read as the next item needs: the writer of a pipe waits, and memory does not grow.
Nothing is dropped.
"""

from __future__ import annotations

from collections.abc import Iterator
from io import BufferedReader
from typing import IO, Final

import numpy as np

from edgedistill.device.predict.inputs import MAX_VALUES, Item, LineSplitter, SeriesLines, StepLines
from edgedistill.device.predict.predictor import SlidingWindows
from edgedistill.errors import DataError, ShapeError
from edgedistill.io.arrays import AnyArray, Doubles

MAX_PIPED_BYTES: Final = 1024**3  # of an NPZ file that comes through a pipe
_CHUNK_BYTES = 1 << 16
_NPZ = b"PK"  # a zip's first bytes


def series_items(stream: BufferedReader, channels: int) -> Iterator[Item]:
    """Yield the series of a CSV, JSON lines or NPZ file, recognized by its first bytes.

    Args:
        stream: stream of the file or pipe.
        channels: number of channels of a series.

    Raises:
        DataError: an NPZ file that cannot be used; a bad line is an item instead.
        OSError: reading fails.
    """
    first = b""
    while len(first) < len(_NPZ) and (chunk := stream.read1(_CHUNK_BYTES)):
        first += chunk
    if first.startswith(_NPZ):
        yield from _npz_items(first, stream, channels)
        return
    lines = SeriesLines(channels)
    for line in _lines(first, stream):
        if (item := lines.item(line)) is not None:
            yield item


def window_items(stream: BufferedReader, channels: int, windows: SlidingWindows) -> Iterator[Item]:
    """Yield the windows of a stream of time steps, placed as {"start": first step}, from 0.

    A line that is no step is an item with an error, and a missing step: time goes on.

    Args:
        stream: stream of a file or pipe, one time step a line.
        channels: number of channels of a step.
        windows: sliding windows that the steps are pushed into.

    Raises:
        OSError: reading fails.
    """
    lines = StepLines(channels)
    for line in _lines(b"", stream):
        step = lines.step(line)
        if step is None:
            continue
        if isinstance(step, Item):
            yield step
        window = windows.push(None if isinstance(step, Item) else step)
        if window is not None:
            yield Item(place={"start": window[0]}, series=window[1])


def npz_items(stream: IO[bytes], channels: int) -> Iterator[Item]:
    """Yield the series of an NPZ file, placed as {"row": i}, counted from 0.

    NaN is a missing value; where all NaN of the file stand at the ends of series, they are
    padding.

    Args:
        stream: seekable stream of the file.
        channels: number of channels of a series.

    Raises:
        DataError: no NPZ file, a damaged one, or one without numbers in `x`.
        ShapeError: `x` has other axes or channels.
    """
    from edgedistill.io.npz import read_npz  # here: other inputs do not need it

    x = _checked(read_npz(stream), channels)
    padded = not any(_has_inner_gap(one) for one in x)
    for row, one in enumerate(x):
        with np.errstate(over="ignore"):  # infinity is refused later, by name
            series: Doubles = one.astype(np.float64)
        yield Item(place={"row": row}, series=series[:, : _length(series)] if padded else series)


def _lines(first: bytes, stream: BufferedReader) -> Iterator[bytes | None]:
    splitter = LineSplitter()
    yield from splitter.feed(first)
    while chunk := stream.read1(_CHUNK_BYTES):
        yield from splitter.feed(chunk)
    yield from splitter.finish()


def _npz_items(first: bytes, stream: BufferedReader, channels: int) -> Iterator[Item]:

    if stream.seekable():
        yield from npz_items(stream, channels)
        return
    import tempfile  # here: other inputs start faster without

    with tempfile.TemporaryFile() as copy:  # its directory stands at the end
        size, chunk = 0, first
        while chunk:
            size += len(chunk)
            if size > MAX_PIPED_BYTES:
                raise DataError(
                    f"The NPZ file has more than {MAX_PIPED_BYTES} bytes. Name the file instead "
                    "of piping it."
                )
            copy.write(chunk)
            chunk = stream.read1(_CHUNK_BYTES)
        yield from npz_items(copy, channels)


def _checked(arrays: dict[str, AnyArray], channels: int) -> AnyArray:
    """Return the series (N, C, T)."""
    if "x" not in arrays:
        names = ", ".join(map(repr, list(arrays)[:5])) or "nothing"
        raise DataError(f"The NPZ file holds {names}, but no x. Save it with np.savez(path, x=x).")
    x = arrays["x"]
    if x.dtype.kind not in "fiub":
        raise DataError(f"x has the type {x.dtype}, not numbers. Convert it.")
    if x.ndim == 2:
        x = x[:, None, :]
    if x.ndim != 3 or x.shape[1] != channels or x[:1].size > MAX_VALUES:
        raise ShapeError(
            f"x has shape {arrays['x'].shape}; the model takes (N, {channels}, T)"
            f"{' or (N, T)' if channels == 1 else ''}, with at most {MAX_VALUES} values a series."
        )
    return x


def _has_inner_gap(one: AnyArray) -> bool:
    return one.dtype.kind == "f" and bool(np.isnan(one[:, : _length(one)]).any())


def _length(one: AnyArray) -> int:
    """Return T without trailing NaN; a series of nothing else keeps its length, to be refused."""
    if one.dtype.kind != "f":
        return int(one.shape[1])
    present = np.flatnonzero(~np.isnan(one).all(axis=0))
    return int(present[-1]) + 1 if len(present) else int(one.shape[1])
