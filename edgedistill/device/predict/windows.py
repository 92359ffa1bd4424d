"""Sliding windows over a stream of time steps, in memory of one window."""

from __future__ import annotations

from collections import deque

import numpy as np

from edgedistill.device.predict.inputs import MAX_VALUES
from edgedistill.errors import UsageError
from edgedistill.io.arrays import Doubles


class SlidingWindows:
    """The last steps of a stream, cut into a window every so many steps.

    Args:
        channels: of a step.
        length: steps of a window.
        stride: steps from the start of a window to that of the next; beyond `length` some steps
            are in no window.

    Raises:
        UsageError: length or hop is below 1, or a window is larger than a series can be.
    """

    def __init__(self, channels: int, length: int, stride: int) -> None:
        if length < 1 or stride < 1:
            raise UsageError(f"The window is {length} steps and the hop {stride}; give at least 1.")
        if channels * length > MAX_VALUES:
            raise UsageError(
                f"A window of {length} steps of {channels} channels is too large; at most "
                f"{MAX_VALUES} values are held."
            )
        self._steps: deque[Doubles] = deque(maxlen=length)
        self._length = length
        self._hop = stride
        self._gap = np.full(channels, np.nan)
        self.count = 0  # steps so far

    def push(self, step: Doubles | None) -> tuple[int, Doubles] | None:
        """Take a step (C,), or None for one that is missing.

        Returns:
            First step and values (C, length) of the window that ends here, if one does.
        """
        self._steps.append(self._gap if step is None else step)
        self.count += 1
        start = self.count - self._length
        if start < 0 or start % self._hop:
            return None
        return start, np.stack(self._steps, axis=1)

    @property
    def left_over(self) -> int:
        """Steps after the last window, which were in none."""
        whole = self.count - self._length
        if whole < 0:
            return self.count
        last = whole - whole % self._hop
        return max(0, self.count - (last + self._length))
