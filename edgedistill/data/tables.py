"""Tables of text: the UCR archive's TSV and TXT, and CSV with a row a series or a row a step."""

from __future__ import annotations

import csv
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

import numpy as np

from edgedistill.data.series import RawSeries, without_padding
from edgedistill.data.text import is_number, read_lines, to_label, to_numbers
from edgedistill.errors import DataError
from edgedistill.io.arrays import Floats

_Row = tuple[int, list[str]]  # number in the file, from 1, and cells
_LONG = {"id", "time", "label"}  # columns of a long table that are no channels


def read_ucr(path: Path) -> RawSeries:
    """Read a UCR file: a row for each series, the label first, NaN at the end is padding.

    Cells are separated by tabs, commas or blanks.

    Raises:
        DataError: a cell is not a number, or a row has no label or no values.
    """
    rows = [(n, _cells(line)) for n, line in enumerate(read_lines(path), start=1) if line.strip()]
    return _wide(rows, 0, path)


def read_csv(path: Path) -> RawSeries:
    """Read a CSV file, wide or long.

    Long: a header with `id`, `time` and `label`; every other column is a channel, every row a time
    step. Wide: a row a series; the label is the column named so, or the first.

    Raises:
        DataError: a cell is not a number, a row is too short, or an id has two labels or a time
            step twice.
    """
    rows = [(n, row) for n, row in _csv_rows(path) if row]
    header = [cell.strip().lower() for cell in rows[0][1]]
    firsts = {row[0].strip().lower() for _, row in rows[1:]}
    if set(header) >= _LONG:
        return _long(header, rows[1:], path)
    label_at = header.index("label") if "label" in header else 0
    return _wide(rows[1:] if _is_header(header, firsts) else rows, label_at, path)


def _csv_rows(path: Path) -> Iterator[_Row]:
    reader = csv.reader(read_lines(path), strict=True)
    try:
        for row in reader:
            yield reader.line_num, row
    except csv.Error as error:
        raise DataError(f"{path}: row {reader.line_num} is not CSV: {error}. Mend it.") from error


def _cells(line: str) -> list[str]:
    for separator in ("\t", ","):
        if separator in line:
            return line.strip("\r\n ").split(separator)
    return line.split()


def _is_header(cells: Sequence[str], firsts: Collection[str]) -> bool:
    """Whether a first row holds names: `label`, no number at all, or columns counted up.

    Args:
        cells: cells of the row, in lower case.
        firsts: first cells of all other rows; a row that shares one is a labeled series.
    """
    values = cells[1:]
    if "label" in cells or not any(map(is_number, values)):
        return True
    counted = any(values == [str(i) for i in range(s, s + len(values))] for s in (0, 1))
    return counted and cells[0] not in firsts and not is_number(cells[0])


def _wide(rows: Sequence[_Row], label_at: int, path: Path) -> RawSeries:
    series, labels = [], []
    for number, cells in rows:
        if len(cells) < max(2, label_at + 1):
            raise DataError(
                f"{path}: row {number} has {len(cells)} cells; a label and values are needed. "
                "Mend or remove it."
            )
        labels.append(to_label(cells[label_at], path, number))
        values = [*cells[:label_at], *cells[label_at + 1 :]]
        columns = (i + 1 for i in range(len(cells)) if i != label_at)
        series.append(to_numbers(values, path, number, columns)[None, :])  # (T,) -> (1, T)
    return RawSeries(series=without_padding(series), labels=labels, origin=str(path))


def _long(header: list[str], rows: Sequence[_Row], path: Path) -> RawSeries:
    if set(header) == _LONG:
        raise DataError(f"{path} has no column beside {', '.join(header)}. Add a channel.")
    groups: dict[str, list[_Row]] = {}
    for number, cells in rows:
        if len(cells) != len(header):
            raise DataError(
                f"{path}: row {number} has {len(cells)} cells, the header {len(header)}. Mend it."
            )
        groups.setdefault(cells[header.index("id")].strip(), []).append((number, cells))
    labels = [_one_label(name, group, header, path) for name, group in groups.items()]
    series = [_one_series(name, group, header, path) for name, group in groups.items()]
    return RawSeries(series=series, labels=labels, origin=str(path))


def _one_label(name: str, group: Sequence[_Row], header: list[str], path: Path) -> str:
    at = header.index("label")
    labels = list(dict.fromkeys(to_label(cells[at], path, number) for number, cells in group))
    if len(labels) > 1:
        raise DataError(
            f"{path}: id {name!r} has the labels {', '.join(map(repr, labels))}. A series has one; "
            "give each series its own id."
        )
    return labels[0]


def _one_series(name: str, group: Sequence[_Row], header: list[str], path: Path) -> Floats:
    at = header.index("time")
    times = [cells[at].strip() for _, cells in group]
    if len(set(times)) < len(times):
        twice = next(t for t in times if times.count(t) > 1)
        raise DataError(f"{path}: id {name!r} has time {twice!r} twice. Keep one row a time step.")
    channels = [i for i, column in enumerate(header) if column not in _LONG]
    columns = [i + 1 for i in channels]
    steps = [
        to_numbers([cells[i] for i in channels], path, number, columns)
        for number, cells in (group[k] for k in _order(times))
    ]
    return np.stack(steps, axis=1)  # T rows of (C,) -> (C, T)


def _order(times: Sequence[str]) -> list[int]:
    """Order of rows by time: as numbers where all are numbers, else as text, as ISO dates sort."""
    try:
        numbers = [float(t) for t in times]
    except ValueError:
        return sorted(range(len(times)), key=times.__getitem__)
    return sorted(range(len(times)), key=numbers.__getitem__)
