"""What `predict` reads, from a file or from a pipe, one item at a time.

Only as much is read as is needed for the next item: who writes into a pipe waits, instead of
what is waiting taking memory. Nothing is dropped.
"""

from __future__ import annotations

from collections.abc import Iterator
from io import BufferedReader
from typing import Final

from edgedistill.device.predict.inputs import Item, LineSplitter, SeriesLines, StepLines
from edgedistill.device.predict.windows import SlidingWindows
from edgedistill.errors import DataError

MAX_PIPED_BYTES: Final = 1024**3  # of an NPZ file that comes through a pipe
_CHUNK_BYTES = 1 << 16
_NPZ = b"PK"  # a zip's first bytes


def series_items(stream: BufferedReader, channels: int) -> Iterator[Item]:
    """Yield the series of a CSV, JSON lines or NPZ file, which is told by its first bytes.

    Args:
        stream: of the file, or of a pipe.
        channels: that a series has.

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
        stream: of a file or a pipe, one time step a line.
        channels: that a step has.
        windows: cuts the windows.

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


def _lines(first: bytes, stream: BufferedReader) -> Iterator[bytes | None]:
    splitter = LineSplitter()
    yield from splitter.feed(first)
    while chunk := stream.read1(_CHUNK_BYTES):
        yield from splitter.feed(chunk)
    yield from splitter.finish()


def _npz_items(first: bytes, stream: BufferedReader, channels: int) -> Iterator[Item]:
    from edgedistill.device.predict.npz_input import npz_items

    if stream.seekable():
        yield from npz_items(stream, channels)
        return
    import tempfile  # here, so that a first answer to what is no NPZ does not wait for it

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
