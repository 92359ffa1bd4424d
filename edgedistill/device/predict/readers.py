"""Readers of `predict`: items from a file or a pipe, one at a time.

Only as much is read as the next item needs: the writer of a pipe waits, and memory does not grow.
Nothing is dropped.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from io import BufferedReader
from itertools import chain
from typing import IO, TYPE_CHECKING, Final

import numpy as np

from edgedistill.device.predict.inputs import (
    Item,
    LineSplitter,
    SeriesLines,
    StepLines,
    decoded,
    series_item,
)
from edgedistill.device.predict.predictor import SlidingWindows
from edgedistill.errors import DataError, ShapeError
from edgedistill.formats.cells import MAX_VALUES
from edgedistill.formats.schema import InputSchema
from edgedistill.formats.tables import read_long
from edgedistill.formats.ts_files import TsReader
from edgedistill.io.arrays import AnyArray

if TYPE_CHECKING:
    from edgedistill.formats.arrays import ArraySeries

MAX_PIPED_BYTES: Final = 1024**3  # of what is read as a whole though it comes through a pipe
_CHUNK_BYTES = 1 << 16
_NPZ, _NPY, _PARQUET = b"PK", b"\x93NUMPY", b"PAR1"  # first bytes
_TS_HEADER, _TS_COMMENTS, _BLANKS = b"@", (b"#", b"%"), b"\xef\xbb\xbf \t"


def series_items(
    stream: BufferedReader,
    channels: int,
    schema: InputSchema | None = None,
    classes: Collection[str] = (),
    *,
    log: Callable[[str], None] = lambda _: None,
) -> Iterator[Item]:
    """Yield the series of a file or pipe, of a format that its first bytes tell.

    JSON lines and tables with a series a row are read line by line; tables with a time step a row,
    arrays and Parquet as a whole.

    Args:
        stream: stream of the file or pipe.
        channels: number of channels of a series.
        schema: what training understood of its files; None where nothing is known.
        classes: names of the classes.
        log: callback for what the columns of a header were taken for.

    Raises:
        DataError: a file that cannot be used as a whole; a bad line is an item instead.
        MachineError: a Parquet file, where pyarrow is not installed.
        OSError: reading fails.
    """
    first = b""
    while any(len(first) < len(m) and m.startswith(first) for m in (_NPZ, _NPY, _PARQUET)):
        chunk = stream.read1(_CHUNK_BYTES)
        if not chunk:
            break
        first += chunk
    if first.startswith(_NPZ):
        with _seekable(first, stream) as file:
            yield from npz_items(file, channels, schema)
    elif first.startswith(_NPY):
        with _seekable(first, stream) as file:
            yield from _npy_items(file, channels, schema)
    elif first.startswith(_PARQUET):
        with _seekable(first, stream) as file:
            yield from _parquet_items(file, channels, schema, classes, log)
    else:
        yield from _text_items(_lines(first, stream), channels, schema, classes, log)


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


def npz_items(
    stream: IO[bytes], channels: int, schema: InputSchema | None = None
) -> Iterator[Item]:
    """Yield the series of an NPZ file, placed as {"row": i}, counted from 0.

    NaN is a missing value or padding, as in training. Where nothing is known of training, NaN are
    padding if all of the file stand at the ends of series.

    Args:
        stream: seekable stream of the file.
        channels: number of channels of a series.
        schema: what training understood of its files; None where nothing is known.

    Raises:
        DataError: no NPZ file, a damaged one, or one without numbers in `x`.
        ShapeError: `x` has other axes or channels.
    """
    from edgedistill.formats.arrays import read_npz_series  # here: other inputs do not need it

    yield from _array_items(read_npz_series(stream), channels, schema)


def _npy_items(stream: IO[bytes], channels: int, schema: InputSchema | None) -> Iterator[Item]:
    from edgedistill.formats.arrays import array_series
    from edgedistill.io.npz import read_npy

    yield from _array_items(array_series({"x": read_npy(stream)}), channels, schema)


def _array_items(found: ArraySeries, channels: int, schema: InputSchema | None) -> Iterator[Item]:
    if found.channels != channels:
        raise ShapeError(
            f"x has {found.channels} channels; the model takes (N, {channels}, T)"
            f"{' or (N, T)' if channels == 1 else ''}."
        )
    padded = schema is None and not any(map(_has_inner_gap, found.series()))
    for row, one in enumerate(found.series()):
        if one.size > MAX_VALUES:
            raise ShapeError(f"Series {row} of x has more than {MAX_VALUES} values.")
        series = one[:, : _length(one)] if padded else one
        yield series_item({"row": row}, series, channels, schema)


def _parquet_items(
    stream: IO[bytes],
    channels: int,
    schema: InputSchema | None,
    classes: Collection[str],
    log: Callable[[str], None],
) -> Iterator[Item]:
    from edgedistill.formats.parquet import parquet_lines

    lines = (line.encode() for line in parquet_lines(stream))
    yield from _text_items(lines, channels, schema, classes, log)


def _text_items(
    lines: Iterator[bytes | None],
    channels: int,
    schema: InputSchema | None,
    classes: Collection[str],
    log: Callable[[str], None],
) -> Iterator[Item]:
    """Yield the series of lines: of a `.ts` file, a table, or JSON."""
    head: list[bytes | None] = []
    if schema is not None:
        for line in lines:
            head.append(line)
            text = (line or b"-").strip()
            if text and not text.startswith(_TS_COMMENTS):
                break
        if head and (head[-1] or b"").lstrip(_BLANKS).startswith(_TS_HEADER):
            yield from _ts_items(chain(head, lines), channels, schema)
            return
    parser, is_logged = SeriesLines(channels, schema, classes), False
    lines = chain(head, lines)
    for line in lines:
        item = parser.item(line)
        if parser.header_fault is not None:
            raise parser.header_fault
        if schema is not None and parser.long_names:
            yield from _long_items(parser, lines, channels, schema, log)
            return
        if not is_logged and (columns := parser.describe_columns()):
            is_logged = True
            log(columns)
        if item is not None:
            yield item


def _ts_items(lines: Iterator[bytes | None], channels: int, schema: InputSchema) -> Iterator[Item]:
    reader = TsReader()
    for number, line in enumerate(lines, start=1):
        place = {"line": number}
        try:
            row = reader.read_line(decoded(line, first=number == 1))
        except DataError as error:
            if not reader.in_data:
                raise
            yield Item(place=place, error=str(error))
            continue
        if row is not None:
            yield series_item(place, row.series, channels, schema)


def _long_items(
    parser: SeriesLines,
    lines: Iterator[bytes | None],
    channels: int,
    schema: InputSchema,
    log: Callable[[str], None],
) -> Iterator[Item]:
    """Yield the series of a table with a time step a row, placed at their first rows."""
    rows: list[tuple[int, str]] = []
    size = 0
    for number, line in enumerate(lines, start=parser.count + 1):
        size += len(line or b"")
        _check_piped(size)
        text = decoded(line)
        if text:
            rows.append((number, text))
    log(f"A table with a time step a row: {', '.join(parser.long_names)}.")
    for result in read_long(parser.long_names, rows, schema):
        place = {"line": result.number}
        if result.row is None:
            yield Item(place=place, error=str(result.error))
        else:
            row = result.row
            yield series_item(place, row.series, channels, schema, name=row.id)


def _lines(first: bytes, stream: BufferedReader) -> Iterator[bytes | None]:
    splitter = LineSplitter()
    yield from splitter.feed(first)
    while chunk := stream.read1(_CHUNK_BYTES):
        yield from splitter.feed(chunk)
    yield from splitter.finish()


@contextmanager
def _seekable(first: bytes, stream: BufferedReader) -> Iterator[IO[bytes]]:
    """Yield a stream at its start: itself, or a copy of a pipe whose first bytes were read."""
    if stream.seekable():
        stream.seek(0)
        yield stream
        return
    import tempfile  # here: other inputs start faster without

    with tempfile.TemporaryFile() as copy:  # its directory stands at the end
        size, chunk = 0, first
        while chunk:
            size += len(chunk)
            _check_piped(size)
            copy.write(chunk)
            chunk = stream.read1(_CHUNK_BYTES)
        copy.seek(0)
        yield copy


def _check_piped(size: int) -> None:
    if size > MAX_PIPED_BYTES:
        raise DataError(
            f"The input has more than {MAX_PIPED_BYTES} bytes, and a file of this format is read "
            "as a whole. Send it in pieces."
        )


def _has_inner_gap(one: AnyArray) -> bool:
    return one.dtype.kind == "f" and bool(np.isnan(one[:, : _length(one)]).any())


def _length(one: AnyArray) -> int:
    """Return T without trailing NaN; a series of nothing else keeps its length, to be refused."""
    if one.dtype.kind != "f":
        return int(one.shape[1])
    present = np.flatnonzero(~np.isnan(one).all(axis=0))
    return int(present[-1]) + 1 if len(present) else int(one.shape[1])
