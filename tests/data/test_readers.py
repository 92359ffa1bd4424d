"""Files of labeled series are read as they were written, or refused with the reason."""

from __future__ import annotations

import re
import sys

import numpy as np
import pytest
from aeon.datasets import load_italy_power_demand

from edgedistill.data.readers import (
    label_file,
    read_lines,
    read_npy_pair,
    read_parquet,
    read_table,
)
from edgedistill.errors import DataError, MachineError
from edgedistill.formats.schema import Roles


def _read(path, **roles):
    return read_table(path, Roles(**roles))


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

    raw = _read(write("\n".join(separator.join(row) for row in rows) + "\n", name))

    np.testing.assert_allclose(np.stack(raw.series), x, rtol=1e-6)
    assert raw.labels == list(y)


def test_nan_at_the_end_of_ucr_rows_is_padding(write):
    """Series of unequal length are padded in the archive."""
    raw = _read(write("1\t1\t2\t3\n2\t4\t5\tNaN\n", "a.tsv"))

    assert raw.remarks == ("NaN at the ends of series are padding, and are cut off.",)
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
        '"label","x1","x2","x3"\n"a","1","2","3"\n\n"b","4","?","6"\n',
        "label;t0;t1;t2\na;1,0;2,0;3,0\nb;4,0;;6,0\n",
        "t2,t0,t1,label\n3,1,2,a\n6,4,,b\n",
    ],
)
def test_wide_csv_with_and_without_a_header(text, write):
    """The label is the column named so, or the first; an empty cell is a missing value."""
    raw = _read(write(text))

    assert raw.labels[:2] == ["a", "b"]
    np.testing.assert_array_equal(raw.series[:2], [[[1, 2, 3]], [[4, np.nan, 6]]])


def test_long_csv_sorts_by_time_and_keeps_channels(write):
    """Rows may come in any order; 10 comes after 9, and series may differ in length."""
    text = "id,time,x,label,y\nq,10,3,b,30\nq,9,2,b,20\np,0,5,a,50\np,1,6,a,\nq,8,1,b,10\n"

    raw = _read(write(text))

    assert raw.labels == ["b", "a"]
    np.testing.assert_array_equal(raw.series[0], [[1, 2, 3], [10, 20, 30]])
    np.testing.assert_array_equal(raw.series[1], [[5, 6], [50, np.nan]])


def test_long_csv_may_have_dates_as_times(write):
    """ISO dates sort as text."""
    text = "id,time,x,label\np,2024-02-01,2,a\np,2024-01-31,1,a\n"

    assert _read(write(text)).series[0].tolist() == [[1, 2]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,5,2\nb,3,x\n", 'row 2: Value 3 is "x"'),
        ("t1,t2,label\n1,x,a\n", 'row 2: Value 2 is "x"'),
        ("a,5,2\n,3,4\n", 'row 2 has no label, but ""'),
        ("label,t0,t1\na,1,2\nb\n", "row 3: The row has 1 cells, the header 3"),
        ("t0,t1,label\n1,2,a\n2,a\n", "row 3: The row has 2 cells, the header 3"),
        ("label,x1,x2\n", "holds no series"),
        ("a,5,2\nb,,\n", r"series 1 .* only NaN"),
        ("a,1\nb,2\n", "1 time steps; at least 2"),
        ('a,1,"2\n', "not CSV"),
        ("id,time,label\np,0,a\np,1,a\n", "no column of values"),
        ("id,time,x,label\np,0,1\n", "Row 2 has 3 cells, the header 4"),
        ("id,time,x,label\np,0,1,a\np,1,2,b\n", 'id "p" has the labels "a", "b"'),
        ("id,time,x,label\np,0,1,a\np,0,2,a\n", 'id "p" has time "0" twice, in rows 2 and 3'),
        ("id,time,x,label\np,0,1,a\np,1,z,a\n", 'Row 3: Value 3 is "z"'),
    ],
)
def test_error_of_invalid_csv_has_row_and_value(text, message, write):
    """The message has the row and its content."""
    with pytest.raises(DataError, match=message):
        _read(write(text))


def test_row_without_values_is_refused(write):
    """A label without values."""
    with pytest.raises(DataError, match=r"series 1 .* has 0 time steps"):
        _read(write("1\t1\t2\n2\n", "a.tsv"))


CASES = {
    "index": (
        "id,t0,t1,t2,label\n0,0.5,0.2,0.6,walk\n1,0.1,0.4,0.5,run\n",
        ["id id", "label label", "t0 to t2 values"],
    ),
    "unnamed": (
        ",t0,t1,t2,label\n0,0.5,0.2,0.6,walk\n1,0.1,0.4,0.5,run\n",
        [" index", "label label", "t0 to t2 values"],
    ),
    "pandas": (
        "Unnamed: 0,0,1,2,target\n0,0.5,0.2,0.6,walk\n1,0.1,0.4,0.5,run\n",
        ["Unnamed: 0 index", "target label", "0 to 2 values"],
    ),
    "label last": (
        "0,1,2,target\n0.5,0.2,0.6,walk\n0.1,0.4,0.5,run\n",
        ["target label", "0 to 2 values"],
    ),
    "semicolons": (
        "label;t0;t1\nwalk;0.5;0.2;0.6\nrun;0.1;0.4;0.5\n",
        ["label label", "t0 to t1 values"],
    ),
    "date": (
        "date,t0,t1,t2,label\n2024-01-01 10:00,0.5,0.2,0.6,walk\n2024-01-02,0.1,0.4,0.5,run\n",
        ["date time", "label label", "t0 to t2 values"],
    ),
    "clock names": (
        "label,0:30,1:00,1:30\nwalk,0.5,0.2,0.6\nrun,0.1,0.4,0.5\n",
        ["label label", "0:30 to 1:30 values"],
    ),
    "dates in any order": (
        "label,2024-03-01,2024-01-31,2024-02-29\nwalk,0.6,0.5,0.2\nrun,0.5,0.1,0.4\n",
        ["label label", "2024-01-31 to 2024-03-01 values"],
    ),
    "group": (
        "label,group,t0,t1,t2\nwalk,1,0.5,0.2,0.6\nrun,1,0.1,0.4,0.5\n",
        ["label label", "group group", "t0 to t2 values"],
    ),
    "timestamp": (
        "id,timestamp,x,label\na,0,0.5,walk\na,1,0.2,walk\na,2,0.6,walk\n"
        "b,2,0.5,run\nb,0,0.1,run\nb,1,0.4,run\n",
        ["id id", "timestamp time", "label label", "x values"],
    ),
    "durations": (
        "id,time,x,label\na,0s,0.5,walk\na,10s,0.6,walk\na,5s,0.2,walk\n"
        "b,10s,0.5,run\nb,0s,0.1,run\nb,5s,0.4,run\n",
        ["id id", "time time", "label label", "x values"],
    ),
    "clock": (
        "id,time,x,label\na,9:50,0.5,walk\na,10:10,0.6,walk\na,10:00,0.2,walk\n"
        "b,9:50,0.1,run\nb,10:00,0.4,run\nb,10:10,0.5,run\n",
        ["id id", "time time", "label label", "x values"],
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_columns_are_taken_for_what_they_are(case, write):
    """Identifiers, indices, times and second columns are no values; every role is recorded."""
    text, columns = CASES[case]

    raw = _read(write(text))

    assert [f"{column.name} {column.role}" for column in raw.columns] == columns
    assert raw.labels == ["walk", "run"]
    np.testing.assert_allclose(
        np.concatenate(raw.series), [[0.5, 0.2, 0.6], [0.1, 0.4, 0.5]], rtol=1e-6
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("label,subject,t0,t1\na,0,1,2\nb,0,3,4\n", 'What "subject" holds cannot be told'),
        ("label,subject1,t0,t1\na,0,1,2\nb,0,3,4\n", 'What "subject1" holds'),
        ("label,target,t0,t1\na,0,1,2\nb,0,3,4\n", '"label", "target" could each be the column'),
        ("t0,t1,t2\n1,2,3\n", "Set data.label"),
        ("kind,t0,t1\na,1,2\nb,3,4\n", 'What "kind" holds cannot be told'),
        ("label,0:30,0:60,1:30,what\na,1,2,3,4\n", 'What "0:30", "0:60", "1:30", "what" holds'),
        ("label,jan,feb\na,1,2\nb,3,4\n", 'What "jan", "feb" holds cannot be told'),
        (
            "id,time,subject,x,label\np,0,7,1,a\np,1,7,2,a\nq,0,8,1,b\nq,1,8,2,b\n",
            'What "subject" holds cannot be told: it is the same in all rows of a series',
        ),
        (
            "id,time,place,x,label\np,0,up,1,a\np,1,down,2,a\nq,0,up,1,b\nq,1,up,2,b\n",
            'What "place" holds cannot be told: it holds text',
        ),
        (
            "id,time,n,x,label\np,0,0,1,a\np,1,1,2,a\np,2,2,7,a\nq,0,3,1,b\nq,1,4,2,b\n",
            'What "n" holds cannot be told: it counts the rows',
        ),
        (
            "id,time,x,label\np,23:59,1,a\np,0:01,2,a\nq,1:00,1,b\nq,1:02,5,b\n",
            "may pass midnight",
        ),
        ("".join(f"{i},0.5,0.{i}1,{'ab'[i % 2]}\n" for i in range(6)), "Column 4 holds text"),
        ("".join(f"{i},0.5,0.{i}1,{i % 2}\n" for i in range(6)), "no labels. Set data.label"),
        ("".join(f"0.{i}1,0.5,{i % 2}\n" for i in range(6)), "no labels. Set data.label"),
        ("".join(f"{i % 2},{i},0.5,0.{i}1\n" for i in range(6)), "Column 2 counts the rows"),
        ("a,1,2\nb,3,4\n", "counts up: it may be a header or a series"),
        ("0,1,2,3,4,5\n1,5,3,2,8,8\n", "may be a header or a series"),
        ("label\tt0\tt1\na\t1,234\t2,345\n", "decimal comma or a separator of thousands"),
    ],
)
def test_ambiguous_tables_are_refused(text, message, write):
    """The message has the column and the settings that tell its role."""
    with pytest.raises(DataError, match=re.escape(message)):
        _read(write(text))


@pytest.mark.parametrize(
    ("text", "roles"),
    [
        ("kind,jan,feb,mar\na,1,2,3\nb,4,5,6\n", {"label": "kind", "values": ("jan..mar",)}),
        (
            "kind,jan,feb,mar\na,1,2,3\nb,4,5,6\n",
            {"label": "Kind", "values": ("jan", "feb", "mar")},
        ),
        ("who,t0,t1,t2,label\n7,1,2,3,a\n7,4,5,6,b\n", {"group": "who"}),
        ("who,t0,t1,t2,label\n7,1,2,3,a\n7,4,5,6,b\n", {"ignore": ("who",)}),
        ("label,target,t0,t1,t2\na,9,1,2,3\nb,9,4,5,6\n", {"label": "label"}),
        ("1,2,3,a\n4,5,6,b\n", {"label": -1}),
        ("7,1,2,3,a\n7,4,5,6,b\n", {"label": 5, "ignore": (1,)}),
        ("7,1,2,3,a\n7,4,5,6,b\n", {"label": 5, "values": (2, 3, 4)}),
    ],
    ids=str,
)
def test_settings_name_columns(text, roles, write):
    """By name, or without a header by number."""
    raw = _read(write(text), **roles)

    assert raw.labels == ["a", "b"]
    np.testing.assert_array_equal(np.concatenate(raw.series), [[1, 2, 3], [4, 5, 6]])


@pytest.mark.parametrize(
    ("text", "roles", "message"),
    [
        ("label,t0,t1\na,1,2\n", {"id": "who"}, "data.id is 'who', which is no column"),
        ("a,5,2\nb,1,2\n", {"id": "who"}, "data.id is 'who', but the table has no header"),
        ("a,5,2\nb,1,2\n", {"id": 4}, "from 1 to 3"),
        ("a,5,2\nb,1,2\n", {"resample_step": 1.0}, "data.resample needs times"),
        ("1,2,a\n1,2,3,b\n", {"label": -1}, "Rows have from 3 to 4 cells"),
    ],
)
def test_settings_that_name_nothing_are_refused(text, roles, message, write):
    """With what is there."""
    with pytest.raises(DataError, match=re.escape(message)):
        _read(write(text), **roles)


def test_equal_labels_spelled_differently_are_one_class(write):
    """As numbers, and as bytes that Python printed; a remark has the spellings."""
    raw = _read(write("1,1,2\n1.0,1,2\n+1,1,2\n1e+00,1,2\nb'1',1,2\n10,1,2\n"))

    assert raw.labels == ["1"] * 5 + ["10"]
    assert raw.remarks == ("Labels '1', '1.0', '+1', '1e+00', \"b'1'\" are one class, '1'.",)


def test_test_series_are_read_by_the_schema_of_the_training_series(write):
    """Gaps make all NaN missing values, in a test file that has some at the ends only, too."""
    train = _read(write("label,t0,t1,t2\na,1,,3\nb,4,5,6\n"))

    test = read_table(write("t2,t0,label,t1\n,1,a,2\n", "b.csv"), Roles(), train)

    np.testing.assert_array_equal(test.series, [[[1, 2, np.nan]]])


def test_test_series_of_other_lengths_are_reported(write):
    """They are resized, which nobody should have to guess."""
    train = _read(write("label,t0,t1,t2\na,1,2,3\nb,4,5,6\n"))

    test = read_table(write("label,t0,t1\na,1,2\n", "b.csv"), Roles(), train)

    assert test.remarks == (
        "1 of 1 test series have a length of their own: 2 values where training had 3.",
    )


@pytest.mark.parametrize(("header", "roles"), [("t,x0,x1", {}), ("t,x,y", {"values": ("x", "y")})])
def test_times_without_ids_are_reported(header, roles, write):
    """Rows that are time steps would else be series of as many steps as there are channels."""
    rows = "0,1,2,walk\n1,2,4,walk\n0,5,3,run\n1,4,1,run\n"

    (remark,) = _read(write(f"{header},label\n{rows}"), **roles).remarks

    assert remark.startswith('Each row is taken for a series; the times in "t" are not used.')
    with_ids = write(f"id,{header},label\na,0,1,2,walk\nb,0,2,4,run\n")
    assert _read(with_ids, **roles).remarks == ()


@pytest.mark.parametrize(("first", "missing"), [("time", "data.id"), ("id", "data.time")])
def test_refusal_names_what_a_long_table_lacks(first, missing, write):
    """Its channels have names of their own, which a row of values has not."""
    text = f"{first},vibration,label\n0,0.5,walk\n1,0.7,run\n"

    with pytest.raises(DataError, match=f"a time step and not a series, start with {missing}"):
        _read(write(text))

    with pytest.raises(DataError, match=r"data\.ignore\.$"):
        _read(write("date,subject,t0,t1,label\n2024-01-01,7,0.5,0.7,walk\n"))


def test_uneven_times_are_reported_and_resampled(write):
    """With their share and size; data.resample puts them on an even grid."""
    rows = [("a", t, t * 2) for t in (0, 5, 10, 30)] + [("b", t, t) for t in (0, 5, 10, 15)]
    path = write("id,t,x,label\n" + "".join(f"{i},{t}s,{x},{i}\n" for i, t, x in rows))

    told, even = _read(path), _read(path, resample_step=5.0)

    (remark,) = told.remarks
    assert remark.startswith("16.7% of the steps between times are not 5, but from 20 to 20")
    np.testing.assert_array_equal(even.series[0], [[0, 10, 20, 30, 40, 50, 60]])
    assert even.remarks == ()


def test_list_column_of_parquet_is_a_series_in_a_row(tmp_path):
    """As data sets of Hugging Face have them; series differ in length."""
    pyarrow = pytest.importorskip("pyarrow", reason="the extra parquet is not installed")
    parquet = pytest.importorskip("pyarrow.parquet")
    table = pyarrow.table({"x": [[1.0, 2.0, 3.0], [4.0, 5.0]], "label": ["a", "b"]})
    parquet.write_table(table, tmp_path / "toys.parquet")

    raw = read_parquet(tmp_path / "toys.parquet", Roles())

    assert [one.tolist() for one in raw.series] == [[[1, 2, 3]], [[4, 5]]]
    assert raw.labels == ["a", "b"]


def test_parquet_without_pyarrow_names_the_extra(monkeypatch, tmp_path):
    """With the command that installs it."""
    monkeypatch.setitem(sys.modules, "pyarrow", None)  # how Python marks what cannot be imported

    with pytest.raises(MachineError, match=r"pip install 'edgedistill\[parquet\]'"):
        read_parquet(tmp_path / "toys.parquet", Roles())


def test_npy_pair(tmp_path):
    """Labels stand in y.npy; in X_train.npy the x alone counts."""
    np.save(tmp_path / "X_train.npy", np.arange(12.0).reshape(2, 2, 3))
    np.save(tmp_path / "y_train.npy", np.array([b"up", b"down"]))

    raw = read_npy_pair(tmp_path / "X_train.npy", Roles())

    assert raw.labels == ["up", "down"]
    np.testing.assert_array_equal(raw.series, np.arange(12.0).reshape(2, 2, 3))


@pytest.mark.parametrize(
    ("name", "message"), [("x.npy", "Save them as y.npy"), ("box.npy", "Name the series x.npy")]
)
def test_npy_file_without_labels_is_refused(name, message, tmp_path):
    """With the name that the labels should have."""
    with pytest.raises(DataError, match=message):
        label_file(tmp_path / name)


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


@pytest.mark.parametrize("cell", ["", "  ", "nan", "?"])
def test_row_without_a_label_is_refused(cell, write):
    """No label is assumed."""
    with pytest.raises(DataError, match="row 2 has no label"):
        _read(write(f"a,5,2\n{cell},2,3\nb,4,5\n"))


def test_none_is_a_label(write):
    """Gesture sets have it for the class without a gesture."""
    assert _read(write("none,5,2\na,2,3\n")).labels == ["none", "a"]


def _long(*rows, names="id,time,label,x", separator=","):
    return "\n".join([names.replace(",", separator), *rows]) + "\n"


def test_times_have_the_decimal_sign_of_their_file(write):
    """Numbers and durations."""
    for unit in ("", " ms"):
        rows = [f"{i};{t},5{unit};{'uv'[i]};{t},25" for i in (0, 1) for t in (10, 9, 2)]

        raw = _read(write(_long(*rows, separator=";")))

        assert raw.series[0].tolist() == [[2.25, 9.25, 10.25]]


def test_counter_of_the_whole_file_is_no_channel(write):
    """Also where rows of several series alternate."""
    rows = [f"{i},{t},{'uv'[i]},{t - i * 0.5},{2 * t + i}" for t in range(4) for i in (0, 1)]

    with pytest.raises(DataError, match='"n" holds cannot be told: it counts the rows'):
        _read(write(_long(*rows, names="id,time,label,x,n")))


def test_resampling_meets_every_step_that_was_recorded(write):
    """12 x 0.05 is more than 0.6 in floating point, and would miss the last value there."""
    rows = [f"{i},{t / 10},{'uv'[i]},{t if t < 7 else 'nan'}" for i in (0, 1) for t in range(8)]

    raw = _read(write(_long(*rows)), resample_step=0.05)

    assert raw.series[0].shape == (1, 13)


def test_label_of_the_training_file_is_replaced_by_no_other(write):
    """Another usual name is no label where the column that training had is missing."""
    rows = [f"a{i},{'uv'[i % 2]},{i}.5,1.5,2.5" for i in range(5)]
    train = _read(write("id,state,t0,t1,t2\n" + "\n".join(rows)), label="state")
    test = write("id,target,t0,t1,t2\na1,u,1.5,1.5,2.5\n", "test.csv")

    with pytest.raises(DataError, match="row 2 has no label"):
        read_table(test, Roles(), train)
