"""Times of a column are parsed exactly, or refused."""

from __future__ import annotations

import sys
from decimal import Decimal

import pytest

from edgedistill.errors import DataError
from edgedistill.formats.times import check_midnight, parse_times

SPELLINGS = {
    "numbers": ("0", "5", "1e1", "15.0"),
    "durations": ("0s", "5 s", "10000ms", "0.25min"),
    "ISO durations": ("PT0S", "PT5S", "PT10S", "PT15S"),
    "clock": ("0:00:00", "00:00:05", "0:00:10.0", "0:00:15"),
    "hours of day": ("9:50:00 PM", "9:50:05 pm", "9:50:10 p.m.", "9:50:15 PM"),
    "pandas": ("0 days 00:00:00", "0 days 00:00:05", "0 days 00:00:10", "0 days 00:00:15"),
    "ISO": (
        "2024-02-28T23:59:55",
        "2024-02-29 00:00:00",
        "2024-02-29T00:00:05Z"[:-1],
        "2024-02-29 00:00:10.000",
    ),
    "zones": (
        "2024-01-01T00:00:00Z",
        "2024-01-01T01:00:05+01:00",
        "2023-12-31T19:00:10-05:00",
        "2024-01-01T00:00:15+0000",
    ),
    "months": (
        "5 Mar 2024 10:00:00",
        "Mar 5, 2024 10:00:05",
        "5 March 2024 10:00:10",
        "2024 Mar 5 10:00:15",
    ),
}


@pytest.mark.parametrize("name", SPELLINGS)
def test_steps_of_five_in_every_spelling(name):
    """Numbers in their own unit, all others in seconds."""
    values = parse_times(SPELLINGS[name]).values

    assert [later - values[0] for later in values] == [0, 5, 10, 15]


def test_nanoseconds_are_exact():
    """Floats would not tell these apart."""
    numbers = parse_times(["1700000000000000001", "1700000000000000002"]).values
    dates = parse_times(["2024-01-01 00:00:00.000000001", "2024-01-01 00:00:00.000000002"]).values

    assert numbers[1] - numbers[0] == 1
    assert dates[1] - dates[0] == Decimal("1e-9")


def test_days_without_separators_are_dates():
    """From January to February it is one day, not 70."""
    values = parse_times(["20240131", "20240201"]).values

    assert values[1] - values[0] == 86_400


def test_format_of_a_setting():
    """As strptime has it; two digits for the day, then the month."""
    values = parse_times(["05/03/2024", "06/03/2024"], "%d/%m/%Y").values

    assert values[1] - values[0] == 86_400


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        (
            ["05/03/2024"],
            "can be read as 2024-03-05 00:00:00 or 2024-05-03 00:00:00. Set data.time",
        ),
        (["10 March"], "can be read as"),
        (["soon"], "no time that can be read"),
        (["inf"], "no time that can be read"),
        (["0", "1s"], '"1s" is no number, as the first time, "0", is'),
        (["1s", "5x"], '"5x" is no duration'),
        (["2024-01-01", "12"], '"12"'),
        (["0", "NaN"], "Row 2 has no time"),
        (["0", ""], "Row 2 has no time"),
        (["2024-01-01T00:00Z", "2024-01-01T00:01"], "some have none"),
        (["25:00 PM"], "no time that can be read"),
        (["2024-02-30 10:00"], "no time that can be read"),
    ],
)
def test_ambiguous_times_are_refused(cells, message):
    """With what was seen, and the setting that tells it."""
    with pytest.raises(DataError) as caught:
        parse_times(cells)

    assert message in str(caught.value)


def test_time_that_does_not_fit_its_format_is_refused():
    """Both are in the message."""
    with pytest.raises(DataError, match=r"\"2024-03-05\" does not fit the time format '%d/%m/%Y'"):
        parse_times(["2024-03-05"], "%d/%m/%Y")


def test_clock_times_around_midnight_are_refused():
    """Sorted, the series would begin in its middle."""
    times = parse_times(["23:50", "23:55", "0:00", "0:05"])

    with pytest.raises(DataError, match="may pass midnight"):
        check_midnight(times, sorted(times.values))


def test_month_names_need_a_package_that_boards_lack(monkeypatch):
    """A board says what to write instead."""
    monkeypatch.setitem(sys.modules, "dateutil", None)

    with pytest.raises(DataError, match="no time that a board reads"):
        parse_times(["5 Mar 2024"])


@pytest.mark.parametrize("step", [6, 8, 12])
def test_clock_times_that_may_pass_midnight_in_long_steps_are_refused(step):
    """The night is no longer than a step, so rows out of order do not tell where they begin."""
    times = parse_times([f"{(16 + step * i) % 24}:00" for i in range(24 // step)])
    ordered = sorted(times.values)

    check_midnight(times, ordered)  # in the order of the rows
    with pytest.raises(DataError, match="may pass midnight"):
        check_midnight(times, ordered, is_sorted=False)


def test_elapsed_times_of_days_pass_no_midnight():
    """More than 24 hours are no clock time."""
    times = parse_times(["36:00", "0:00", "18:00"])

    check_midnight(times, sorted(times.values), is_sorted=False)
