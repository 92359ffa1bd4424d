"""`.ts` files give what aeon reads from them, with labels spelled as in the file."""

from __future__ import annotations

import numpy as np
import pytest
from aeon.datasets import load_from_ts_file

from edgedistill.data import readers
from edgedistill.data.sources import bundled_file
from edgedistill.errors import DataError
from edgedistill.formats.schema import Roles

HEADER = "# toys\n@problemName Toys\n@timeStamps false\n@classLabel true Walk Run\n@data\n"


def read_ts(path):
    """Read training series."""
    return readers.read_ts(path, Roles())


@pytest.fixture
def write(tmp_path):
    """Write a `.ts` file and return its path."""

    def _write(text):
        path = tmp_path / "toys.ts"
        path.write_text(text, encoding="utf-8")
        return path

    return _write


@pytest.mark.parametrize("name", ["ItalyPowerDemand", "BasicMotions", "JapaneseVowels"])
def test_real_sets_agree_with_aeon(name):
    """Univariate, multivariate, and of unequal length."""
    path = bundled_file(name)
    expected, labels = load_from_ts_file(str(path))

    raw = read_ts(path)

    assert [label.lower() for label in raw.labels] == labels.tolist()
    for ours, theirs in zip(raw.series, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    "header",
    [
        "@problemName\tToys\n@timeStamps\tfalse\n@classLabel\ttrue\tWalk\tRun\n@data\n",
        "@problemName Toys\n@timeStamps false\n@classLabels true Walk Run\n@data\n",
        "# a comment\n@classLabel true Walk Run\n% one more\n@data\n# and here\n",
    ],
    ids=["tabs", "classLabels", "comments"],
)
def test_header_has_many_forms(header, write):
    """All of them stand in files that people have."""
    raw = read_ts(write(header + "1,2,3:Walk\n4,5,6:Run\n"))

    assert raw.labels == ["Walk", "Run"]
    np.testing.assert_array_equal(raw.series, [[[1, 2, 3]], [[4, 5, 6]]])


def test_labels_keep_their_case_and_question_marks_are_missing(write):
    """aeon would lower the case."""
    raw = read_ts(write(HEADER + "1,?,3:4,5,6:Walk\n\n1,2:3,4:Run\n"))

    assert raw.labels == ["Walk", "Run"]
    np.testing.assert_array_equal(raw.series[0], [[1, np.nan, 3], [4, 5, 6]])
    assert raw.series[1].shape == (2, 2)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1,2,3:a\n", "row 1: The file has no @data line"),
        ("@targetlabel true\n@data\n1,2:0.5\n", "no '@classLabel true' line"),
        (HEADER.replace("false", "true") + "(0,1),(1,2):Walk\n", "has timestamps"),
        (HEADER, "holds no series"),
        (HEADER + "1,2:3,x:Walk\n", 'row 6: Value 2 is "x"'),
        (HEADER + "1,2:\n", "row 6 has no label"),
    ],
)
def test_error_of_an_invalid_ts_file_has_the_reason(text, message, write):
    """The message has the missing line, or the cell."""
    with pytest.raises(DataError, match=message):
        read_ts(write(text))


@pytest.mark.parametrize("row", ["1,2,3:4,5:Walk", "Walk"])
def test_channels_of_a_series_share_a_length(row, write):
    """A shorter channel has no place in (C, T)."""
    with pytest.raises(
        DataError, match=r"row 6: The (channels have 3, 2 values|row has a label, but)"
    ):
        read_ts(write(HEADER + row + "\n"))
