"""Series and time steps out of lines of text, each judged alone.

A line that cannot be used becomes an item with an error, because a stream goes on after it.
Lines and series are bounded, so that no input can take all memory. NumPy only.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from edgedistill.errors import DataError, ShapeError
from edgedistill.formats.cells import MAX_VALUES, is_number, quote
from edgedistill.formats.rows import RowReader, stack_channels, to_numbers
from edgedistill.formats.schema import InputSchema
from edgedistill.io.arrays import AnyFloats, Doubles

MAX_LINE_BYTES: Final = 16 * 1024**2
MAX_ID: Final = 256  # characters
_NO_VALUES = ("id", "label", "time")  # columns that a header can name beside the values


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """A series that was read, or why it could not be."""

    place: Mapping[str, int]  # where it stood, such as {"line": 3}
    id: str | int | None = None  # as the sender named it
    series: AnyFloats | None = None  # (C, T_i), NaN is a missing value
    error: str | None = None
    warning: str | None = None  # about a series that can be predicted all the same


class LineSplitter:
    """Splitter of bytes into lines; of a line beyond the bound only its presence is kept.

    Args:
        max_bytes: longest line.
        rest: what came of the first line already.
        is_too_long: whether the first line is beyond the bound already.
    """

    def __init__(
        self, max_bytes: int = MAX_LINE_BYTES, rest: bytes = b"", *, is_too_long: bool = False
    ) -> None:
        self._max_bytes = max_bytes
        self._buffer = bytearray(rest)
        self._too_long = is_too_long

    @property
    def is_within_line(self) -> bool:
        """Whether a line has begun that did not end."""
        return self._too_long or bool(self._buffer)

    @property
    def is_too_long(self) -> bool:
        """Whether the line that did not end is beyond the bound."""
        return self._too_long

    @property
    def rest(self) -> bytes:
        """What is held of it."""
        return bytes(self._buffer)

    @property
    def size(self) -> int:
        """Bytes that are held of it."""
        return len(self._buffer)

    def feed(self, chunk: bytes) -> Iterator[bytes | None]:
        """Yield each line that ends in `chunk`, without its end; None for one too long."""
        *ended, rest = chunk.split(b"\n")
        for piece in ended:
            yield self._ended(piece)
        self._add(rest)

    def finish(self) -> Iterator[bytes | None]:
        """Yield the last line if nothing ended it."""
        if self._buffer or self._too_long:
            yield self._ended(b"")

    def _ended(self, chunk: bytes) -> bytes | None:
        self._add(chunk)
        line = None if self._too_long else bytes(self._buffer)
        self._buffer.clear()
        self._too_long = False
        return line

    def _add(self, chunk: bytes) -> None:
        if self._too_long or len(self._buffer) + len(chunk) > self._max_bytes:
            self._too_long = True
            self._buffer.clear()
        else:
            self._buffer += chunk


class SeriesLines:
    """Parser of one series a line: JSON, or text as in the training files.

    Args:
        channels: number of channels of a series; in text they are separated by colons.
        schema: what training understood of its files; None where nothing is known: text then holds
            values alone, beside the columns `id`, `label` and `time` of a header.
        classes: names of the classes.
        header: whether the first line may be a header; not where each line gets a reply.
        max_bytes: longest line, which the error of a longer one names.
        count: number of lines before the first.
    """

    def __init__(
        self,
        channels: int,
        schema: InputSchema | None = None,
        classes: Collection[str] = (),
        *,
        header: bool = True,
        max_bytes: int = MAX_LINE_BYTES,
        count: int = 0,
    ) -> None:
        self._channels = channels
        self._schema = schema
        self._lines = _Lines(header and schema is None, max_bytes=max_bytes, count=count)
        self._rows = (
            None if schema is None else RowReader(schema, channels, classes, may_head=header)
        )

    @property
    def count(self) -> int:
        """Number of lines so far."""
        return self._lines.count

    def describe_columns(self) -> str | None:
        """Describe what the columns of text were taken for; None before a header or a row."""
        return None if self._rows is None else self._rows.describe_columns()

    @property
    def long_names(self) -> tuple[str, ...]:
        """Names in the header of a table with a time step a row; none for any other."""
        return self._rows.names if self._rows is not None and self._rows.is_long else ()

    @property
    def header_fault(self) -> DataError | None:
        """Why no line below the header can be read."""
        return None if self._rows is None else self._rows.header_fault

    def item(self, line: bytes | None) -> Item | None:
        """Return the item of a line; None for an empty line and for the header."""
        try:
            text = self._lines.text(line)
            if not text:
                return None
            read = _from_json(text) if text.lstrip()[:1] in ("{", "[") else self._from_text(text)
            if read is None:
                return None
        except DataError as error:
            return Item(place=self._lines.place, error=str(error))
        return series_item(self._lines.place, read[1], self._channels, self._schema, name=read[0])

    def _from_text(self, text: str) -> tuple[str | int | None, Doubles] | None:
        if self._rows is not None:
            row = self._rows.read_line(text)
            return None if row is None else (_checked_id(row.id), row.series)
        rows = [cells_of(part) for part in text.strip().split(":", self._channels)]
        rows[0], name = self._lines.split_id(rows[0])
        return _checked_id(name), stack_channels([_numbers(row) for row in rows])


def series_item(
    place: Mapping[str, int],
    series: AnyFloats,
    channels: int,
    schema: InputSchema | None,
    *,
    name: str | int | None = None,
) -> Item:
    """Return the item of a series (C, T_i): without padding, and judged by training's lengths.

    Args:
        place: where it stood.
        series: series as it was read.
        channels: number of channels that it must have.
        schema: what training understood of its files; None where nothing is known.
        name: id of the series.
    """
    if len(series) != channels:
        error = (
            f"The series has {len(series)} channels, the model takes {channels}. Write them as "
            "[[...], [...]] in JSON, or separated by colons."
        )
        return Item(place=place, error=error)
    if schema is None:
        return Item(place=place, id=name, series=series)
    with np.errstate(over="ignore"):  # infinity is refused later, by name
        series = schema.without_padding(series).astype(np.float32)  # as training read its files
    return Item(place=place, id=name, series=series, warning=schema.length_remark(series.shape[1]))


class StepLines:
    """Parser of one time step a line: a number a channel, as text or as a JSON array.

    Args:
        channels: number of channels of a step.
    """

    def __init__(self, channels: int) -> None:
        self._channels = channels
        self._lines = _Lines(header=True)

    def step(self, line: bytes | None) -> Doubles | Item | None:
        """Return a step (C,), an item with an error, or None for an empty line or the header."""
        try:
            text = self._lines.text(line).strip()
            if not text:
                return None
            if text[0] in "{[":
                step = _row(_parsed(text))
            else:
                step = _numbers(self._lines.split_id(cells_of(text))[0])
            if len(step) != self._channels:
                raise ShapeError(
                    f"The step has {len(step)} values, the model takes {self._channels} channels. "
                    "Write one value a channel, in the order of the training data."
                )
        except DataError as error:
            return Item(place=self._lines.place, error=str(error))
        return step


class _Lines:
    """State between lines: how many there were, and the columns of the header."""

    def __init__(self, header: bool, *, max_bytes: int = MAX_LINE_BYTES, count: int = 0) -> None:
        self.count = count
        self._max_bytes = max_bytes
        self._may_head = header  # until the first line that is not empty
        self._columns: list[str] = []  # as the header names them

    @property
    def place(self) -> dict[str, int]:
        return {"line": self.count}

    def text(self, line: bytes | None) -> str:
        """Return the next line without blanks around it; nothing for a header."""
        self.count += 1
        text = decoded(line, first=self.count == 1, max_bytes=self._max_bytes)
        if text and self._may_head:
            self._may_head = False
            if text.strip()[0] not in "{[" and _is_header(text.strip()):
                self._columns = [cell.lower() for cell in cells_of(text.strip())]
                return ""
        return text

    def split_id(self, cells: list[str]) -> tuple[list[str], str | None]:
        """Return a line's values, and its id if a column is called so."""
        named = dict(zip(self._columns, cells, strict=False))  # a series may be shorter
        kept = [
            cell
            for index, cell in enumerate(cells)
            if index >= len(self._columns) or self._columns[index] not in _NO_VALUES
        ]
        return kept, named.get("id")


def cells_of(text: str) -> list[str]:
    """Return the cells of a line, between tabs, commas or semicolons, or else blanks."""
    for separator in "\t,;":
        if separator in text:
            return [cell.strip() for cell in text.split(separator, MAX_VALUES)]
    return text.split(None, MAX_VALUES)


def decoded(line: bytes | None, *, first: bool = False, max_bytes: int = MAX_LINE_BYTES) -> str:
    """Return the text of a line without blanks around it.

    Raises:
        DataError: the line is too long, or no UTF-8 text.
    """
    if line is None:
        raise DataError(f"The line has more than {max_bytes} bytes. Send shorter series.")
    try:
        text = line.decode("utf-8-sig" if first else "utf-8").strip("\r\n ")
    except UnicodeDecodeError as error:
        raise DataError(
            f"The line is not UTF-8 text ({error.reason}). Send CSV or JSON lines."
        ) from error
    return text if text.strip() else ""  # a tab at either end bounds an empty cell


def _is_header(text: str) -> bool:
    """Return whether a line is a header: a cell is `id`, `label` or `time`, or none a number."""
    cells = [cell.lower() for cell in cells_of(text.partition(":")[0])]
    return any(cell in _NO_VALUES for cell in cells) or not any(map(is_number, cells))


def _numbers(cells: list[str]) -> Doubles:
    """Return cells as numbers; an empty one, `?` or `NaN` is a missing value."""
    return to_numbers(cells, range(len(cells)), ".")


def _from_json(text: str) -> tuple[str | int | None, Doubles]:
    value = _parsed(text)
    name = None
    if isinstance(value, dict):
        if "series" not in value:
            has = ", ".join(quote(key) for key in list(value)[:5]) or "nothing"
            raise DataError(f'The object has {has}, but no "series". Send {{"series": [...]}}.')
        name = _checked_id(value.get("id"))
        value = value["series"]
    nested = isinstance(value, list) and value and isinstance(value[0], list)
    return name, stack_channels([_row(row) for row in (value if nested else [value])])


def _parsed(text: str) -> Any:
    _check_size(text.count(","))
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(
            f"The line is not JSON: {error}. Write one object or array a line."
        ) from error


def _row(values: object) -> Doubles:
    """Return a JSON array of numbers and nulls; null becomes NaN."""
    if not isinstance(values, list):
        raise DataError(f"{quote(values)} stands where an array of numbers belongs.")
    for index, value in enumerate(values):
        if type(value) not in {int, float, type(None)}:  # true would pass for a number
            raise DataError(
                f"Value {index + 1} is {quote(value)}, not a number. Write a missing value as null."
            )
    try:
        return np.array(values, dtype=np.float64)
    except OverflowError as error:
        raise DataError("A value is too large for a number. Rescale the series.") from error


def _check_size(values: int) -> None:
    if values > MAX_VALUES:
        raise DataError(f"The series has more than {MAX_VALUES} values. Send it in pieces.")


def _checked_id(value: object) -> str | int | None:
    if value is None or (isinstance(value, str | int) and len(str(value)) <= MAX_ID):
        return value
    raise DataError(
        f"The id is {quote(value)}; a whole number or a text of at most {MAX_ID} characters is "
        "needed."
    )
