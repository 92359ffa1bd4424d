"""Progress is told epoch by epoch."""

from __future__ import annotations

from edgedistill.io.progress import ignore_progress
from edgedistill.pipeline.progress import epoch_callback
from edgedistill.training.config import Epoch


def test_every_epoch_is_told():
    heard = []
    tell = epoch_callback(lambda *told: heard.append(told), "distill", 9)

    for number in (1, 2):
        tell(Epoch(number, 0.5, 0.5, 0.5, 0.5))

    assert heard == [("distill", 1, 9), ("distill", 2, 9)]


def test_nobody_has_to_listen():
    ignore_progress("distill", 1, 9)
