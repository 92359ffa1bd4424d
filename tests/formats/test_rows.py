"""A row is told by its header, or by the number of its cells."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from edgedistill.errors import DataError
from edgedistill.formats.rows import RowReader
from edgedistill.formats.schema import InputSchema, Roles

CLASSES = ("1", "2", "walk")
BARE = InputSchema(
    layout="wide", label_at=0, other_at=(0,), lengths=(4, 4), widths=(4, 4), roles=Roles()
)
RAGGED = InputSchema(layout="wide", label_at=0, other_at=(0,), lengths=(3, 6), widths=(3, 6))
NAMED = InputSchema(
    layout="wide",
    header=True,
    roles=Roles(label="state", id="who", ignore=("subject",)),
    label_at=2,
    id_at=0,
    other_at=(0, 1, 2),
    channels=("t#",),
    lengths=(4, 4),
    widths=(4, 4),
)
ARRAYS = InputSchema(layout="arrays", lengths=(4, 4), widths=(4, 4))


def _rows(schema, *lines, channels=1, may_head=True):
    reader = RowReader(schema, channels, CLASSES, may_head=may_head)
    return [row for row in map(reader.read_line, lines) if row is not None]


@pytest.mark.parametrize(
    ("schema", "lines", "label", "name"),
    [
        (BARE, ["walk,1,2,3,4"], "walk", None),
        (BARE, ["1.0;1;2;3;4"], "1.0", None),
        (BARE, ["\t1\t2\t3\t4"], "", None),
        (BARE, ["1,2,3,4"], None, None),
        (BARE, ["id,t0,t1,t2,t3", "a,1,2,3,4"], None, "a"),
        (BARE, ["t3,t0,label,t1,t2", "4,1,walk,2,3"], "walk", None),
        (RAGGED, ["2,1,2,3,4"], "2", None),
        (RAGGED, ["1.5,2,3,4", "1,2,3,4"], None, None),
        (NAMED, ["who,subject,state,t0,t1,t2,t3", "a,7,walk,1,2,3,4"], "walk", "a"),
        (NAMED, ["t1,t0,t2,t3,STATE", "2,1,3,4,walk"], "walk", None),
        (NAMED, ["t0,t1,t2,t3", "1,2,3,4"], None, None),
        (NAMED, ["a,7,walk,1,2,3,4"], "walk", "a"),
        (NAMED, ["1,2,3,4"], None, None),
        (ARRAYS, ["1,2,3,4"], None, None),
        (ARRAYS, ["1,2,3,4:walk"], "walk", None),
        (ARRAYS, ["label,t0,t1,t2,t3", "walk,1,2,3,4"], "walk", None),
    ],
    ids=str,
)
def test_values_label_and_id_of_a_row(schema, lines, label, name):
    """By the names in a header, or by the number of cells where there is none."""
    row = _rows(schema, *lines)[-1]

    np.testing.assert_array_equal(row.series[:, -4:], [[1, 2, 3, 4]])
    assert (row.label, row.id) == (label, name)


@pytest.mark.parametrize(
    ("schema", "lines", "message"),
    [
        (
            ARRAYS,
            ["1,2,3,4,5"],
            "5 values where training had 4: is the first or the last one a label",
        ),
        (ARRAYS, ["1.5,2,3,4,walk"], "5 values where training had 4"),
        (BARE, ["3,1,2,3,4"], "none of the classes"),
        (BARE, ["0.5,1,2,3,4"], "none of the classes"),
        (BARE, ["subject,t0,t1,t2,t3", "3,1,2,3,4"], 'What "subject" holds cannot be told'),
        (RAGGED, ["2,1,2,3,4", "0.7,1,2,3"], "none of the classes"),
        (NAMED, ["who,t0,t1,t2,t3,more", "a,1,2,3,4,5"], 'What "more" holds cannot be told'),
        (NAMED, ["state,t0,t1,t2,t3", "walk,1,2,3,4,9,9,what"], '"what", not a number'),
        (NAMED, ["t0,t1,t2,t3,state", "1,2,3,walk"], "has 4 cells, the header 5"),
        (BARE, ["1,2,x,4"], 'Value 3 is "x", not a number'),
        (BARE, ["1,2,1_0,4"], 'Value 3 is "1_0"'),
    ],
    ids=str,
)
def test_ambiguous_row_is_refused(schema, lines, message):
    """A label or an id is never stretched into a series."""
    with pytest.raises(DataError) as caught:
        _rows(schema, *lines)

    assert message in str(caught.value)


def test_channels_keep_the_order_of_training():
    """Whatever the order of the columns is; other names are refused."""
    schema = InputSchema(layout="wide", header=True, channels=("y#", "x#"), widths=(2, 2))

    (row,) = _rows(schema, "x0,x1,y1,y0", "1,2,4,3", channels=2)

    np.testing.assert_array_equal(row.series, [[3, 4], [1, 2]])
    with pytest.raises(DataError, match="in training they were"):
        _rows(schema, "x0,x1,z0,z1", "1,2,3,4", channels=2)


def test_decimal_commas():
    """As in the training table; a point may separate thousands there."""
    schema = InputSchema(
        layout="wide", label_at=0, other_at=(0,), decimal=",", lengths=(2, 2), widths=(2, 2)
    )

    (row,) = _rows(schema, "walk;1,5;-2")

    np.testing.assert_array_equal(row.series, [[1.5, -2]])
    with pytest.raises(DataError, match=r'"1\.234", not a number'):
        _rows(schema, "walk;1.234;2")


NUMBERS = InputSchema(
    layout="wide",
    header=True,
    roles=Roles(label="label"),
    label_at=0,
    other_at=(0,),
    channels=("#",),
    lengths=(4, 4),
    widths=(4, 4),
)


def test_header_of_numbers_is_recognized_without_a_label():
    """Its names are those of training."""
    (row,) = _rows(NUMBERS, "0,1,2,3", "0.5,0.6,0.7,0.8")

    assert row.series.tolist() == [[0.5, 0.6, 0.7, 0.8]]


@pytest.mark.parametrize("first", ["3,1,0,2", "0.5,0.6,0.7,0.8"])
def test_no_row_is_read_below_an_ambiguous_header(first):
    """Columns in another order would be read as those of training, or a series be lost."""
    reader = RowReader(NUMBERS, 1, CLASSES)

    for line in (first, "0.5,0.6,0.7,0.7"):
        with pytest.raises(DataError, match="may be a header or a series"):
            reader.read_line(line)


@pytest.mark.parametrize("line", ["1,0.2,0.3,0.4", "2.0,0.2,0.3,0.4"])
def test_row_of_values_whose_first_may_be_a_label_is_refused(line):
    """A series that is shorter by one, with its label, has as many cells."""
    with pytest.raises(DataError, match="is a label or a value cannot be told"):
        _rows(BARE, line)


def test_label_behind_values_of_another_length_is_refused():
    """Its place is not that of training."""
    last = InputSchema(layout="wide", label_at=4, other_at=(4,), lengths=(4, 4), widths=(4, 4))

    with pytest.raises(DataError, match="is a label or a value cannot be told"):
        _rows(last, "0.1,0.2,0.3,0.4,0.5,0.6,2")


def test_separator_at_the_end_of_rows_is_no_missing_value():
    """As training saw it, or it is refused."""
    trailing = replace(NUMBERS, trailing=True)

    (row,) = _rows(trailing, "0.5,0.6,0.7,0.7,")
    with pytest.raises(DataError, match="none of the classes"):
        _rows(NUMBERS, "0.5,0.6,0.7,0.7,")

    assert row.series.shape == (1, 4)


def test_labels_have_the_decimal_sign_of_their_file():
    """1,0 is 1 there."""
    comma = replace(BARE, decimal=",")

    (row,) = _rows(comma, "1,0;0,5;0,6;0,7;0,8")

    assert (row.label, row.series.tolist()) == ("1.0", [[0.5, 0.6, 0.7, 0.8]])
