"""Sliding windows are what slicing the whole stream would give."""

from __future__ import annotations

import numpy as np
import pytest

from edgedistill.device.predict.windows import SlidingWindows
from edgedistill.errors import UsageError


@pytest.mark.parametrize(("length", "hop"), [(5, 5), (5, 2), (5, 1), (3, 7), (1, 1), (40, 3)])
def test_windows_are_slices(length, hop, rng):
    """For every hop, also one beyond the window; and what is left over is counted."""
    steps = rng.normal(size=(31, 2))
    windows = SlidingWindows(2, length, hop)

    found = [window for step in steps if (window := windows.push(step)) is not None]

    starts = list(range(0, 31 - length + 1, hop))
    assert [start for start, _ in found] == starts
    for start, values in found:
        np.testing.assert_array_equal(values, steps[start : start + length].T)
    assert windows.count == 31
    assert windows.left_over == (31 - (starts[-1] + length) if starts else 31)


def test_a_missing_step_keeps_its_place():
    """It is NaN in every channel."""
    windows = SlidingWindows(2, 2, 1)
    windows.push(np.array([1.0, 2.0]))

    start, values = windows.push(None)

    assert start == 0
    np.testing.assert_array_equal(values, [[1, np.nan], [2, np.nan]])


def test_memory_is_one_window():
    """However long the stream is, no more steps are held than a window has."""
    windows = SlidingWindows(1, 4, 100)

    for _ in range(1_000):
        windows.push(np.zeros(1))

    assert len(windows._steps) == 4


@pytest.mark.parametrize(
    ("channels", "length", "hop", "told"),
    [(1, 0, 1, "at least 1"), (1, 4, 0, "at least 1"), (4, 1 << 20, 1, "too large")],
)
def test_impossible_windows(channels, length, hop, told):
    """They are refused before the first step."""
    with pytest.raises(UsageError, match=told):
        SlidingWindows(channels, length, hop)
