"""How a stage tells how far it is, without knowing who listens."""

from __future__ import annotations

from collections.abc import Callable

from edgedistill.io.progress import ProgressCallback
from edgedistill.training.config import Epoch


def epoch_callback(
    on_progress: ProgressCallback, stage: str, total: int
) -> Callable[[Epoch], None]:
    """Return what `fit` calls after every epoch."""
    return lambda epoch: on_progress(stage, epoch.epoch, total)
