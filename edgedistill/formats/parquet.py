"""Parquet files as lines of CSV, so that tables of both kinds are read by the same rules."""

from __future__ import annotations

import csv
import datetime
import decimal
import io
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from edgedistill.errors import DataError, MachineError

MAGIC = b"PAR1"  # first bytes of a file
_PANDAS_INDEX = re.compile(r"__index_level_\d+__")


def parquet_lines(source: Path | IO[bytes]) -> list[str]:
    """Return a header and the rows of a Parquet file as lines of CSV.

    A column of lists, such as a series in each row, becomes numbered columns.

    Raises:
        MachineError: pyarrow is not installed.
        DataError: the file cannot be read, or a column holds neither numbers, text, times, nor
            lists of numbers.
    """
    try:
        from pyarrow import ArrowException, parquet
    except ModuleNotFoundError as error:
        raise MachineError(
            "Parquet files are read with pyarrow, which is not installed here. Run: pip install "
            "'edgedistill[parquet]', or save the table as CSV."
        ) from error
    try:
        columns = parquet.read_table(source).to_pydict()
    except (ArrowException, OSError, ValueError) as error:
        raise DataError(f"The input is no Parquet file that can be read: {error}.") from error
    names, cells = [], []
    for name, values in columns.items():
        for part, column in _spread(str(name), values):
            names.append("" if _PANDAS_INDEX.fullmatch(part) else part)
            cells.append(column)
    return [_line(names), *(_line(row) for row in zip(*cells, strict=True))] if names else []


def _spread(name: str, values: list[Any]) -> Iterator[tuple[str, list[str]]]:
    """Yield a column of cells, or a numbered one for each place in a column of lists."""
    if not any(isinstance(value, list) for value in values):
        yield name, [_cell(value, name) for value in values]
        return
    lists = [value or [] for value in values]
    for place in range(max(map(len, lists))):
        column = [one[place] if place < len(one) else None for one in lists]
        yield f"{name}{place}", [_cell(value, name) for value in column]


def _cell(value: object, name: str) -> str:
    if value is None:
        return ""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, datetime.timedelta):
        return f"{value.total_seconds()!r}s"
    if isinstance(value, str | int | float | decimal.Decimal | datetime.date | datetime.time):
        return str(value)
    raise DataError(
        f"Column {name!r} holds {type(value).__name__}, neither numbers, text, times, nor lists of "
        "numbers. Leave it out."
    )


def _line(cells: Sequence[str]) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow(" ".join(cell.splitlines()) for cell in cells)
    return line.getvalue()
