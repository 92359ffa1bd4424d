"""Lines, numbers and labels of text files, with errors that name the cell."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from edgedistill.data.series import tidy_label
from edgedistill.errors import DataError
from edgedistill.io.arrays import Floats

_NO_LABEL = {"", "?", "nan"}  # "none" is a fine name for the class of no gesture
_MISSING = {"", "?", "na", "nan", "null", "none"}


def read_lines(path: Path) -> list[str]:
    """Read the lines of a text file.

    Raises:
        DataError: the file cannot be read, is not UTF-8 text, or is empty.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise DataError(f"Cannot read {path}: {error.strerror}. Check the path.") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text ({error.reason}). Check the file.") from error
    if not any(line.strip() for line in lines):
        raise DataError(f"{path} is empty. Give a file with at least two labeled series.")
    return lines


def to_numbers(
    cells: Iterable[str], path: Path, row: int, columns: Iterable[int] | None = None
) -> Floats:
    """Convert cells to float32 (T,); an empty cell, `?` or `NaN` is a missing value.

    Args:
        cells: cells of a row.
        path: path of the file, for the error message.
        row: number of the row, from 1, for the error message.
        columns: numbers of these cells in the row, for the error message; None counts from 1.

    Raises:
        DataError: a cell is not a number.
    """
    numbers = []
    for cell, column in zip(cells, columns or itertools.count(1), strict=False):
        text = cell.strip()
        try:
            numbers.append(np.nan if text.lower() in _MISSING else float(text))
        except ValueError as error:
            raise DataError(
                f"{path}: row {row}, column {column} holds {text!r}, which is not a number. "
                "Write a missing value as NaN."
            ) from error
    with np.errstate(over="ignore"):  # `check_series` refuses infinity, with its place
        return np.array(numbers, dtype=np.float64).astype(np.float32)


def is_number(cell: str) -> bool:
    """Whether a cell holds a number or a missing value."""
    try:
        float(cell)
    except ValueError:
        return cell.strip().lower() in _MISSING
    return True


def to_label(cell: str, path: Path, row: int) -> str:
    """Normalize the label in a cell.

    Raises:
        DataError: the cell holds no label.
    """
    label = tidy_label(cell)
    if label.lower() in _NO_LABEL:
        raise DataError(f"{path}: row {row} has no label, but {cell!r}. Add it or remove the row.")
    return label
