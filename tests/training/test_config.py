"""Invalid settings are refused before anything is trained."""

from __future__ import annotations

import math

import pytest

from edgedistill.errors import ConfigError
from edgedistill.io.progress import ignore_progress
from edgedistill.training.config import Epoch, FitConfig, epoch_callback


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"epochs": 0}, "epochs must be at least 1, got 0"),
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"devices": 0}, "devices must be at least 1, got 0"),
        ({"patience": 0}, "patience must be at least 1, got 0"),
        ({"learning_rate": 0.0}, "learning_rate must be a finite number above 0, got 0.0"),
        ({"learning_rate": math.nan}, "learning_rate must be a finite number above 0, got nan"),
        ({"clip": -1.0}, "clip must be a finite number above 0, got -1.0"),
        ({"weight_decay": -1.0}, "weight_decay must be a finite 0 or more, got -1.0"),
        ({"freeze_norm_from": 1.5}, "freeze_norm_from must lie between 0 and 1, got 1.5"),
    ],
    ids=str,
)
def test_settings_that_make_no_sense(settings, message):
    with pytest.raises(ConfigError, match=message):
        FitConfig(**settings)


def test_epoch_callback_reports_every_epoch():
    reports = []
    on_epoch = epoch_callback(lambda *report: reports.append(report), "distill", 9)

    for number in (1, 2):
        on_epoch(Epoch(number, 0.5, 0.5, 0.5, 0.5))

    assert reports == [("distill", 1, 9), ("distill", 2, 9)]


def test_progress_may_be_ignored():
    ignore_progress("distill", 1, 9)
