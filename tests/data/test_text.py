"""Text becomes lines, numbers and labels, or an error with the cell."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgedistill.data.text import read_lines, to_label, to_numbers
from edgedistill.errors import DataError

FILE = Path("toys.csv")


def test_missing_values_have_many_spellings():
    """Empty, `?`, NaN and NA; blanks around numbers are ignored."""
    numbers = to_numbers([" 1.5 ", "", "?", "NaN", "na", "-2e-1"], FILE, 1)

    np.testing.assert_allclose(numbers, [1.5, np.nan, np.nan, np.nan, np.nan, -0.2])
    assert numbers.dtype == np.float32


def test_error_of_a_cell_has_row_and_column():
    """Counted from 1, as in an editor."""
    with pytest.raises(DataError, match=r"toys.csv: row 7, column 3 holds 'x1', which is not"):
        to_numbers(["1", "x1"], FILE, 7, [2, 3])


@pytest.mark.parametrize("cell", ["", "  ", "nan", "?"])
def test_row_without_a_label_is_refused(cell):
    """No label is assumed."""
    with pytest.raises(DataError, match="row 7 has no label"):
        to_label(cell, FILE, 7)


def test_none_is_a_label():
    """Gesture sets have it for the class without a gesture."""
    assert to_label("none", FILE, 1) == "none"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "Cannot read .*: No such file or directory"),
        (b"\xff\xfe\x00\x81", "is not UTF-8 text"),
        (b"", "is empty"),
        (b" \n\n", "is empty"),
    ],
)
def test_files_without_text_are_refused(content, message, tmp_path):
    """Missing, binary and empty files, each with its message."""
    path = tmp_path / "toys.tsv"
    if content is not None:
        path.write_bytes(content)

    with pytest.raises(DataError, match=message):
        read_lines(path)
