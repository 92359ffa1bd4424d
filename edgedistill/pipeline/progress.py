"""How a stage tells how far it is, without knowing who listens."""

from __future__ import annotations

from collections.abc import Callable

from edgedistill.training.config import Epoch

Progress = Callable[[str, int, int], None]  # what is being done, units done, units in all


def silent(what: str, done: int, total: int) -> None:
    """Listen to nothing."""


def epochs(tell: Progress, what: str, total: int) -> Callable[[Epoch], None]:
    """Return what `fit` calls after every epoch."""
    return lambda epoch: tell(what, epoch.epoch, total)
