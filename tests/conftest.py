"""Fixtures that every test may use."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import NoReturn

# Before NumPy and torch load: on networks this small, more threads only wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pytest

# A job that a script put in the background ignores Ctrl-C, and so would all that tests start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def rng() -> np.random.Generator:
    """A fresh generator with a fixed seed."""
    return np.random.default_rng(0)


@pytest.fixture(scope="session")
def unavailable() -> Callable[[str], NoReturn]:
    """Skip for want of something, or fail where nothing may be wanting, as .ci/run demands."""

    def stop(reason: str) -> NoReturn:
        if os.environ.get("EDGEDISTILL_COMPLETE"):
            pytest.fail(f"{reason} (EDGEDISTILL_COMPLETE is set)")
        pytest.skip(reason)

    return stop
