"""TSV, TXT and CSV, wide and long, are read correctly."""

from __future__ import annotations

import numpy as np
import pytest
from aeon.datasets import load_italy_power_demand

from edgedistill.data.tables import read_csv, read_ucr
from edgedistill.errors import DataError


@pytest.fixture
def write(tmp_path):
    """Write a file and return its path."""

    def _write(text, name="toys.csv"):
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return path

    return _write


@pytest.mark.parametrize(("separator", "name"), [("\t", "a.tsv"), (",", "a.txt"), ("  ", "a.txt")])
def test_real_set_is_read_from_each_ucr_layout(separator, name, write):
    """The archive used tabs, commas and blanks over the years, and labels like 1.0."""
    x, y = load_italy_power_demand(split="train")
    rows = ((f"{float(k):e}", *map(repr, s[0].tolist())) for s, k in zip(x, y, strict=True))

    raw = read_ucr(write("\n".join(separator.join(row) for row in rows) + "\n", name))

    np.testing.assert_allclose(np.stack(raw.series), x, rtol=1e-6)
    assert raw.labels == list(y)


def test_nan_at_the_end_of_ucr_rows_is_padding(write):
    """Series of unequal length are padded in the archive."""
    raw = read_ucr(write("1\t1\t2\t3\n2\t4\t5\tNaN\n", "a.tsv"))

    assert [one.tolist() for one in raw.series] == [[[1, 2, 3]], [[4, 5]]]


@pytest.mark.parametrize(
    "text",
    [
        "a,1,2,3\nb,4,,6\na,7,8,9\n",
        "label,t0,t1,t2\na,1,2,3\nb,4,,6\n",
        "\ufefflabel,0,1,2\na,1,2,3\nb,4,,6\n",
        "class,0,1,2\na,1,2,3\nb,4,,6\n",
        "class,1,2,3\na,1,2,3\nb,4,,6\n",
        "0,1,Label,2\n1,2,a,3\n4,NaN,b,6\n",
        '"kind","x","y","z"\n"a","1","2","3"\n\n"b","4","?","6"\n',
    ],
)
def test_wide_csv_with_and_without_a_header(text, write):
    """The label is the column named so, or the first; an empty cell is a missing value."""
    raw = read_csv(write(text))

    assert raw.labels[:2] == ["a", "b"]
    np.testing.assert_array_equal(raw.series[:2], [[[1, 2, 3]], [[4, np.nan, 6]]])


def test_long_csv_sorts_by_time_and_keeps_channels(write):
    """Rows may come in any order; 10 comes after 9, and series may differ in length."""
    text = "id,time,x,label,y\nq,10,3,b,30\nq,9,2,b,20\np,0,5,a,50\np,1,6,a,\nq,8,1,b,10\n"

    raw = read_csv(write(text))

    assert raw.labels == ["b", "a"]
    np.testing.assert_array_equal(raw.series[0], [[1, 2, 3], [10, 20, 30]])
    np.testing.assert_array_equal(raw.series[1], [[5, 6], [50, np.nan]])


def test_long_csv_may_have_dates_as_times(write):
    """ISO dates sort as text."""
    text = "id,time,x,label\np,2024-02-01,2,a\np,2024-01-31,1,a\n"

    assert read_csv(write(text)).series[0].tolist() == [[1, 2]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,1,2\nb,3,x\n", "row 2, column 3 holds 'x'"),
        ("1,2,label\n1,x,a\n", "row 2, column 2 holds 'x'"),
        ("a,1,2\n,3,4\n", "row 2 has no label"),
        ("a,1,2\nb\n", "row 2 has 1 cells; a label and values are needed"),
        ("x,label\n1,a\n2\n", "row 3 has 1 cells"),
        ("label,x,y\n", "holds no series"),
        ("a,5,2\nb,,\n", "series 1 .* only NaN"),
        ("a,1\nb,2\n", "1 time steps; at least 2"),
        ('a,1,"2\n', "row 1 is not CSV"),
        ("id,time,label\np,0,a\n", "no column beside id, time, label"),
        ("id,time,x,label\np,0,1\n", "row 2 has 3 cells, the header 4"),
        ("id,time,x,label\np,0,1,a\np,1,1,b\n", "id 'p' has the labels 'a', 'b'"),
        ("id,time,x,label\np,0,1,a\np,0,2,a\n", "id 'p' has time '0' twice"),
        ("id,time,x,label\np,0,1,a\np,1,z,a\n", "row 3, column 3 holds 'z'"),
        ("id,time,x,label\n", "holds no series"),
    ],
)
def test_error_of_invalid_csv_has_row_and_value(text, message, write):
    """The message has the row and its content."""
    with pytest.raises(DataError, match=message):
        read_csv(write(text))


def test_ucr_row_without_values_is_refused(write):
    """A label without values."""
    with pytest.raises(DataError, match="row 2 has 1 cells; a label and values are needed"):
        read_ucr(write("1\t1\t2\n2\n", "a.tsv"))
