"""Views of series: what changes and what stays."""

from __future__ import annotations

import numpy as np
import pytest

from edgedistill.distillation.objectives.baselines.sskd import (
    VIEWS,
    jitter,
    permutation,
    scaling,
    time_warp,
)


@pytest.fixture
def series(rng) -> np.ndarray:
    """Smooth series with units of their own, (N, C, T) = (6, 2, 40)."""
    return (np.cumsum(rng.normal(size=(6, 2, 40)), axis=2) * [[1], [300]]).astype(np.float32)


@pytest.mark.parametrize("view", VIEWS, ids=lambda view: view.__name__)
def test_every_series_is_changed_differently(view, series):
    """By the generator; type and shape stay, and the argument too."""
    same = np.repeat(series[:1], 6, axis=0)
    kept = same.copy()

    changed = view(same, np.random.default_rng(1))

    assert changed.dtype == np.float32
    assert changed.shape == same.shape
    assert np.isfinite(changed).all()
    np.testing.assert_array_equal(same, kept)
    np.testing.assert_array_equal(changed, view(same, np.random.default_rng(1)))
    assert (changed != view(same, np.random.default_rng(2))).any()
    assert all((changed[0] != other).any() for other in changed[1:])
    assert (changed != same).any(axis=(1, 2)).sum() >= 5


@pytest.mark.parametrize("view", VIEWS, ids=lambda view: view.__name__)
@pytest.mark.parametrize("length", [1, 2, 3])
def test_short_and_constant_series(view, length, rng):
    series = np.ones((3, 1, length), np.float32)

    changed = view(series, rng)

    assert changed.shape == series.shape
    assert np.isfinite(changed).all()


def test_jitter_is_small_beside_each_channel(series, rng):
    noise = jitter(series, rng) - series

    share = noise.std(axis=2) / series.std(axis=2)
    assert ((share > 0.03) & (share < 0.08)).all()


def test_scaling_keeps_the_shape(series, rng):
    factors = scaling(series, rng) / series

    np.testing.assert_allclose(factors, factors[..., :1].repeat(40, axis=2), rtol=1e-5)
    assert np.ptp(factors[..., 0], axis=1).min() > 0  # each channel its own
    assert ((factors > 0.5) & (factors < 1.5)).all()


def test_time_warp_keeps_values_and_their_order(rng):
    """Of a series that is time itself: the clock goes forward, from end to end, unevenly."""
    clock = np.arange(40, dtype=np.float32)[None, None].repeat(5, axis=0)

    warped = time_warp(clock, rng)

    steps = np.diff(warped, axis=2)
    assert (steps > 0).all()
    np.testing.assert_allclose(warped[..., 0], 0, atol=1e-5)
    np.testing.assert_allclose(warped[..., -1], 39, rtol=1e-6)
    assert np.ptp(steps, axis=2).min() > 0.05


def test_permutation_moves_at_most_four_pieces_of_all_channels(rng):
    clock = np.arange(40, dtype=np.float32)[None, None].repeat(8, axis=0).repeat(2, axis=1)

    moved = permutation(clock, rng)

    np.testing.assert_array_equal(np.sort(moved, axis=2), clock)
    np.testing.assert_array_equal(moved[:, 0], moved[:, 1])
    assert ((np.diff(moved, axis=2) != 1).sum(axis=2) <= 3).all()
