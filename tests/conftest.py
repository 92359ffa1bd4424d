"""Fixtures that every test may use."""

from __future__ import annotations

import os

# Before NumPy and torch load: on networks this small, more threads only wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pytest


@pytest.fixture
def rng() -> np.random.Generator:
    """A fresh generator with a fixed seed."""
    return np.random.default_rng(0)
