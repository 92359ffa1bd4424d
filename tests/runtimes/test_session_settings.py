"""Session settings: what they hold, and what they refuse."""

from __future__ import annotations

import pytest

from edgedistill.errors import UsageError
from edgedistill.runtimes.session_settings import DEFAULT, SessionSettings

OTHER = {
    "threads": 4,
    "spinning": False,
    "optimization": "extended",
    "execution": "parallel",
    "memory_arena": False,
}


def test_round_trip():
    """What was written is read, the defaults and others."""
    assert SessionSettings.from_dict(DEFAULT.to_dict()) == DEFAULT
    assert SessionSettings.from_dict(OTHER).to_dict() == OTHER


def test_one_line_names_every_setting():
    """As it stands in reports and tables."""
    assert str(DEFAULT) == ("1 thread, spinning on, optimization all, sequential, memory arena on")
    assert str(SessionSettings(**OTHER)) == (
        "4 threads, spinning off, optimization extended, parallel, memory arena off"
    )


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("threads", 0, "threads is 0; give 1 or more"),
        ("threads", True, "threads is True"),
        ("threads", "2", "threads is '2'"),
        ("spinning", 1, "spinning is 1; give true or false"),
        ("memory_arena", None, "memory_arena is None"),
        ("optimization", "layout", "optimization is 'layout'; choose from none, basic, extended"),
        ("execution", [], r"execution is \[\]; choose from sequential, parallel"),
    ],
)
def test_values_that_make_no_sense(key, value, message):
    """They come from a file that anyone may have written."""
    with pytest.raises(UsageError, match=message):
        SessionSettings.from_dict({**OTHER, key: value})


def test_keys_must_be_those_that_are_known():
    """Both lists are named."""
    odd = {**OTHER, "affinity": "1-2"}
    del odd["threads"]

    with pytest.raises(UsageError, match="lack threads and have unknown affinity"):
        SessionSettings.from_dict(odd)
