"""Cells are split at the separator of their table, whatever signs other cells hold."""

from __future__ import annotations

import pytest

from edgedistill.errors import DataError
from edgedistill.formats.cells import decimal_sign, split_cells


@pytest.mark.parametrize(
    ("line", "decimal", "cells"),
    [
        ('"c,d";0.5;1.5', ".", ["c,d", "0.5", "1.5"]),
        ('"say ""no""";0.5', ".", ['say "no"', "0.5"]),
        ("x;y,0.5,1.5", ".", ["x;y", "0.5", "1.5"]),
        ("run 0\t9:59:00\tt1\t1,14e-08", ",", ["run 0", "9:59:00", "t1", "1,14e-08"]),
        ("walk 1,5 2,5", ",", ["walk", "1,5", "2,5"]),
        ('"0,5","1,5"', ",", ["0,5", "1,5"]),
    ],
)
def test_line_is_split_at_its_separator(line, decimal, cells):
    """Quotes that are none with another separator do not matter."""
    assert split_cells(line, decimal) == cells


@pytest.mark.parametrize(
    ("lines", "sign"),
    [
        (["id\ttime\tlabel\tx", "run 0\t9:59:00\tt1\t1,14e-08"], ","),
        (["run moment class x", "s0 9:59 t1 0,5", "s0 10:00 t1 0,25"], ","),
        (["id,time,label,x", "s0,13 Mar 2024 09:59:00,t1,0.5"], "."),
        (["run a, 0.5, 1.5"], "."),
        (["walk,0.5,1.5"], "."),
    ],
)
def test_decimal_sign_is_recognized_among_text(lines, sign):
    """A line that falls into fewer cells at another separator is not better for it."""
    assert decimal_sign(lines) == sign


def test_open_quote_is_refused_whatever_the_separator():
    """With the cause."""
    with pytest.raises(DataError, match="is not CSV"):
        split_cells('"c,d;0.5;1.5')
