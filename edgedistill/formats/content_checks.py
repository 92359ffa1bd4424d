"""Checks of what the columns of a training table hold, where names do not tell it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from edgedistill.errors import DataError
from edgedistill.formats.cells import is_number, quote, to_number
from edgedistill.formats.roles import Columns, has_column_name

NumberedCells = tuple[int, list[str]]  # number of a row in its file, from 1, and its cells
_COUNTED = 5  # rows from which a column that counts up is taken for a counter


def check_names_header(cells: Sequence[str], names: Collection[str]) -> None:
    """Refuse a header that is one only because its numbers count up, as those of a series may."""
    has_numbers = any(is_number(cell) and cell for cell in cells)
    if has_numbers and not has_column_name(cells, names):
        raise DataError(
            f"The first row, {', '.join(map(quote, cells[:4]))}, counts up: it may be a header or "
            "a series. If it is a header, name the column of labels 'label', or set data.label; if "
            "not, put a header above it."
        )


def check_counted_row(cells: Sequence[str]) -> None:
    """Refuse a first row 0, 1, 2, ..., which is a header or a series."""
    if len(cells) > _COUNTED and _counts(cells):
        raise DataError(
            f"The first row counts up from {cells[0]}, so it may be a header or a series. Name the "
            "columns, one of them 'label', or remove the row."
        )


def check_label_column(rows: Sequence[NumberedCells]) -> None:
    """Refuse a first column without a name that holds measurements or counts the rows."""
    cells = [cells[0] for _, cells in rows]
    numbers = [to_number(cell) for cell in cells if is_number(cell)]
    distinct = len(set(cells))
    real = [number for number in numbers if number != number // 1]
    if len(cells) >= _COUNTED and distinct == len(cells) and (real or _counts(cells)):
        raise DataError(
            f"The first column holds {', '.join(map(quote, cells[:3]))}, a different number in "
            "each row, which are no labels. Set data.label to the number of their column, from 1; "
            "-1 is the last."
        )


def check_text_columns(rows: Sequence[NumberedCells], places: Sequence[int]) -> None:
    first = rows[0][1]
    for at in places:
        if is_number(first[at]):
            continue
        if len(rows) > 1 and not any(is_number(cells[at]) for _, cells in rows):
            raise DataError(
                f"Column {at + 1} holds text in every row, such as {quote(first[at])}. If these "
                f"are the labels, set data.label: {at + 1}; else add it to data.ignore."
            )


def check_counters(
    rows: Sequence[NumberedCells], places: Sequence[int], name: Callable[[int], str]
) -> None:
    """Refuse columns that count the rows: what a program wrote beside the values."""
    if len(rows) < _COUNTED:
        return
    for at in places:
        some = [cells[at] for _, cells in rows[:_COUNTED] if at < len(cells)]
        if _counts(some) and _counts([cells[at] for _, cells in rows if at < len(cells)]):
            raise DataError(
                f"Column {name(at)} counts the rows, from {some[0]} on. Name it in data.ignore, or "
                "in data.id, or if it holds values, name all columns of values in data.values."
            )


def check_channels(names: Sequence[str], rows: Sequence[NumberedCells], columns: Columns) -> None:
    """Refuse columns of a long table that are no channels, by what they hold."""
    groups: dict[str, list[list[str]]] = {}
    for _, cells in rows:
        if len(cells) == len(names):
            groups.setdefault(cells[columns.id or 0].strip(), []).append(cells)
    is_several = any(len(group) > 1 for group in groups.values())
    for (at,) in columns.values:
        every = [[cells[at] for cells in group] for group in groups.values()]
        flat = [cell for group in every for cell in group]
        in_file = [cells[at] for _, cells in rows if at < len(cells)]  # series may alternate
        what = None
        if flat and not any(map(is_number, flat)):
            what = f"holds text, such as {quote(flat[0])}"
        elif is_several and all(len(set(group)) == 1 for group in every):
            what = "is the same in all rows of a series"
        elif len(flat) >= _COUNTED and (_counts(in_file) or all(map(_counts, every))):
            what = "counts the rows"
        if what is not None:
            raise DataError(
                f"What {quote(names[at])} holds cannot be told: it {what}. Name it in data.group, "
                "data.ignore or data.label, or the columns of values in data.values."
            )


def _counts(cells: Sequence[str]) -> bool:
    """Whether cells are whole numbers that rise by one, from 0 or 1."""
    if not cells or cells[0] not in {"0", "1"}:
        return False
    start = int(cells[0])
    return all(cell == str(start + index) for index, cell in enumerate(cells))
