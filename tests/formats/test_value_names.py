"""Names of value columns tell channels and steps, or are refused."""

from __future__ import annotations

import pytest

from edgedistill.errors import DataError
from edgedistill.formats.roles import is_header, wide_columns
from edgedistill.formats.schema import Roles


@pytest.mark.parametrize(
    "names",
    [
        [f"t{t}_ch{c}" for t in range(6) for c in range(2)],
        [f"s{t}c{c}" for t in range(6) for c in range(2)],
        [f"{t}.{c}" for t in range(1, 12) for c in (1, 2)],
        ["x1_1", "x1_2", "x2_1", "x2_2"],
    ],
    ids=lambda names: names[1],
)
def test_two_numbers_in_names_are_refused(names):
    """Time steps would become channels."""
    with pytest.raises(DataError, match="is the channel, and which the time step"):
        wide_columns(["label", *names], Roles())


@pytest.mark.parametrize(
    "names",
    [
        [f"ch{c}_t{t}" for c in range(2) for t in range(6)],
        [f"dim_{c}_{t}" for c in range(3) for t in range(6)],
        [f"{t}_x{c}" for c in "ab" for t in range(6)],
    ],
    ids=lambda names: names[1],
)
def test_fewer_numbered_channels_than_steps_are_channels(names):
    """The last number is the time."""
    assert {len(channel) for channel in wide_columns(["label", *names], Roles()).values} == {6}


@pytest.mark.parametrize(
    "cells",
    [["0.3", "label", "0.1", "0.2"], ["label", "0.0", "0.1"], ["2", "0", "class", "1"]],
)
def test_evenly_numbered_columns_are_a_header_in_any_order(cells):
    """Decimals too."""
    assert is_header(cells)


def test_first_row_that_may_be_a_header_or_a_series_is_refused():
    """A label that has the usual name of a column, and numbers that count nothing."""
    with pytest.raises(DataError, match="may be a header or a series"):
        is_header(["Label", "1.1", "2.1", "1.2", "2.2"])


def test_first_row_with_a_gap_is_no_header():
    """NaN is in no order."""
    with pytest.raises(DataError, match="may be a header or a series"):
        is_header(["target", "0.5", "nan", "0.7"])
