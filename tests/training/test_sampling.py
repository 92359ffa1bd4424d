"""Points between bounds."""

from __future__ import annotations

import numpy as np
import pytest

from edgedistill.training.sampling import draw

BOUNDS = [(0.1, 100.0), (1.0, 2.0)]


def test_points_lie_between_their_bounds():
    points = np.array(draw(BOUNDS, 32, seed=0))

    low, high = np.array(BOUNDS).T
    assert points.shape == (32, 2)
    assert (low <= points).all()
    assert (points <= high).all()


def test_the_seed_decides_the_points():
    assert draw(BOUNDS, 5, seed=1) == draw(BOUNDS, 5, seed=1)
    assert draw(BOUNDS, 5, seed=1) != draw(BOUNDS, 5, seed=2)


def test_more_points_are_the_same_and_others():
    assert draw(BOUNDS, 9, seed=1)[:5] == draw(BOUNDS, 5, seed=1)


@pytest.mark.parametrize("seed", range(3))
def test_the_scale_is_logarithmic_and_filled_evenly(seed):
    """Each of the three decades gets its third; on a plain scale nine in ten got the last."""
    (values,) = np.array(draw([(0.1, 100.0)], 30, seed=seed)).T

    decades = np.histogram(np.log10(values), bins=3, range=(-1, 2))[0]
    assert decades.min() >= 9


@pytest.mark.parametrize("seed", range(3))
def test_dimensions_are_filled_together(seed):
    """Every quarter of the square gets its share: they do not move in step."""
    points = np.array(draw([(0.1, 10.0), (0.1, 10.0)], 32, seed=seed))

    counts = np.histogram2d(*np.log10(points).T, bins=2, range=[(-1, 1), (-1, 1)])[0]
    assert counts.min() >= 5
