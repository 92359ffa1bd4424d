"""Progress callbacks: their types, and one that ignores progress."""

from __future__ import annotations

from collections.abc import Callable

ProgressCallback = Callable[[str, int, int], None]  # what is being done, units done, units in all


def ignore_progress(stage: str, done: int, total: int) -> None:
    """Report nothing."""
