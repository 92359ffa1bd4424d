"""Cells of text: split from a line, and read as numbers or labels."""

from __future__ import annotations

import csv
import json
import math
import re
from collections.abc import Sequence
from decimal import Decimal
from typing import Final, Literal

from edgedistill.errors import DataError

DecimalSign = Literal[".", ","]
MAX_VALUES: Final = 1 << 20  # of a series, all channels together
MISSING: Final = frozenset({"", "?", "na", "nan", "null", "none"})
NO_LABEL: Final = frozenset({"", "?", "nan"})  # "none" is a fine name for the class of no gesture
_SEPARATORS = "\t;,"  # else blanks
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)
_WHOLE = re.compile(r"[+-]?(?:0|[1-9]\d*)", re.ASCII)
_CODE = re.compile(r"[+-]?0\d+", re.ASCII)  # such as 007
_BYTES = re.compile(r"b(['\"])(.*)\1", re.DOTALL)  # bytes that Python printed
_THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2},\d{3}", re.ASCII)
_LONGEST_NUMBER = 28  # digits that a Decimal keeps
_SHOWN = 40  # characters of a wrong value in a message
_FORMULA = ("=", "+", "-", "@", "\t", "\r")  # begins one, or may hide one
_SAMPLE = 200  # lines that the decimal sign is told from


def split_cells(line: str, decimal: DecimalSign = ".") -> list[str]:
    """Split a line at tabs, semicolons or commas, or else at blanks; quotes as in CSV.

    Of several separators the one counts that gives most numbers and least text, or the first of
    these.

    >>> split_cells("a\\t1\\t2"), split_cells("a;1,5;2", ","), split_cells(" 1  2 ")
    (['a', '1', '2'], ['a', '1,5', '2'], ['1', '2'])

    Raises:
        DataError: a quote is not closed, or there are too many cells.
    """
    separators = [sign for sign in _SEPARATORS if sign in line]
    if decimal == "," and (len(separators) > 1 or " " in line.strip()):
        separators = [sign for sign in separators if sign != ","]
    if not separators:
        return _bounded(line.split(None, MAX_VALUES + 1))
    first, *others = separators
    if not others:
        return _split(line, first)
    splits = [cells for sign in separators if (cells := _try_split(line, sign)) is not None]
    if not splits:
        return _split(line, first)  # which raises
    return max(splits, key=lambda cells: _score(cells, decimal))


def decimal_sign(lines: Sequence[str]) -> DecimalSign:
    """Tell whether numbers have decimal points or decimal commas.

    >>> decimal_sign(["walk;0,5;1,25"]), decimal_sign(["walk,0.5,1.25"])
    (',', '.')

    Raises:
        DataError: commas that could separate thousands as well.
    """
    sample = lines[:: max(1, len(lines) // _SAMPLE)]
    cells = [cell for line in sample for cell in split_cells(line, ",") if "," in cell]
    numbers = [cell for cell in cells if is_number(cell, ",")]
    is_better = _readable(sample, ",") > _readable(sample, ".") or not _is_separated(sample)
    if not numbers or not is_better:
        return "."
    if all(map(_THOUSANDS.fullmatch, numbers)):
        raise DataError(
            f"{quote(numbers[0])} could have a decimal comma or a separator of thousands. Write "
            "numbers with a decimal point and without separators."
        )
    return ","


def to_number(cell: str, decimal: DecimalSign = ".") -> float:
    """Read a cell as a number; NaN for a missing value.

    Raises:
        ValueError: it is no number.
    """
    text = cell.strip()
    if text.lower() in MISSING:
        return math.nan
    if decimal == "," and ("." in text or text.count(",") == 1):
        text = text.replace(",", ".") if "." not in text else ""  # 1.234 may be 1234
    if "_" in text:
        raise ValueError("to Python alone 1_000 is a number")
    return float(text)


def is_number(cell: str, decimal: DecimalSign = ".") -> bool:
    """Whether a cell holds a number or a missing value."""
    try:
        to_number(cell, decimal)
    except ValueError:
        return False
    return True


def with_point(cell: str, decimal: DecimalSign) -> str:
    """Write a number with a decimal point; anything else stays.

    >>> with_point("1,5", ","), with_point("1,5", "."), with_point("a,b", ",")
    ('1.5', '1,5', 'a,b')
    """
    return cell.replace(",", ".") if decimal == "," and is_number(cell, decimal) else cell


def canonical_label(cell: str) -> str:
    """Normalize a label: equal numbers have one spelling, and bytes are text.

    >>> [canonical_label(text) for text in ("10", " 1.0000000e+00 ", "+1", "b'1'", "007", ".50")]
    ['10', '1', '1', '1', '007', '0.5']
    """
    label = cell.strip()
    if printed := _BYTES.fullmatch(label):
        label = printed[2].strip()
    if not _NUMBER.fullmatch(label) or _CODE.fullmatch(label):
        return label
    if _WHOLE.fullmatch(label):
        return "0" if label.lstrip("+-") == "0" else label.removeprefix("+")
    number = Decimal(label)
    if len(label) > _LONGEST_NUMBER or abs(number.adjusted()) >= _LONGEST_NUMBER:
        return label
    return str(int(number)) if number == int(number) else format(number.normalize(), "f")


def spreadsheet_cell(text: str) -> str:
    """Return a text that a spreadsheet shows and does not compute: with an apostrophe where needed.

    >>> [spreadsheet_cell(text) for text in ("=1+1", "@SUM(A1)", "-5", "+1e3", "-a", "a=1")]
    ["'=1+1", "'@SUM(A1)", '-5', '+1e3', "'-a", 'a=1']
    """
    return f"'{text}" if text.startswith(_FORMULA) and not is_number(text) else text


def quote(value: object) -> str:
    """Quote a wrong value for a message: short, and free of control characters."""
    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else "an array"
    text = json.dumps(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def _split(line: str, separator: str) -> list[str]:
    if '"' not in line:
        return _bounded([cell.strip() for cell in line.split(separator, MAX_VALUES + 1)])
    try:
        (cells,) = csv.reader([line], delimiter=separator, strict=True)
    except (csv.Error, ValueError) as error:
        raise DataError(f"The line is not CSV: {error}. Mend its quotes.") from error
    return _bounded([cell.strip() for cell in cells])


def _try_split(line: str, separator: str) -> list[str] | None:
    try:
        return _split(line, separator)
    except DataError:  # its quotes may be those of another separator
        return None


def _bounded(cells: list[str]) -> list[str]:
    if len(cells) > MAX_VALUES:
        raise DataError(f"The series has more than {MAX_VALUES} values. Send it in pieces.")
    return cells


def _is_separated(lines: Sequence[str]) -> bool:
    """Whether the first line has one of the separators, if any has."""
    has_some = [not set(line).isdisjoint(_SEPARATORS) for line in lines]
    return has_some[0] or not any(has_some)


def _readable(lines: Sequence[str], decimal: DecimalSign) -> int:
    return sum(_score(split_cells(line, decimal), decimal) for line in lines)


def _score(cells: Sequence[str], decimal: DecimalSign) -> int:
    """Count the numbers, less the texts; one with separators in it counts as several."""
    texts = [cell for cell in cells if not is_number(cell, decimal)]
    within = sum(cell.count(separator) for cell in texts for separator in _SEPARATORS)
    present = sum(cell not in MISSING for cell in cells)
    return present - 2 * len(texts) - within
