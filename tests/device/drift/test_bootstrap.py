"""The distance, and what chance shows of it, against slow definitions."""

from __future__ import annotations

import math

import numpy as np
import pytest

from edgedistill.device.drift import bootstrap as resampling


def _slow(first, second):
    p = [v / sum(first) for v in first]
    q = [v / sum(second) for v in second]
    total = 0.0
    for a, b in zip(p, q, strict=True):
        middle = (a + b) / 2
        total += a * math.log2(a / middle) / 2 if a else 0.0
        total += b * math.log2(b / middle) / 2 if b else 0.0
    return math.sqrt(total)


def test_distances_are_those_of_the_definition(rng):
    """Empty bins included."""
    first, second = rng.integers(0, 5, size=(2, 40, 6))
    first[:, 0] += 1
    second[:, 1] += 1

    found = resampling.distances(first, second)

    expected = [_slow(a.tolist(), b.tolist()) for a, b in zip(first, second, strict=True)]
    np.testing.assert_allclose(found, expected, atol=1e-7)


@pytest.mark.parametrize(
    ("second", "distance"), [([3, 1, 0], 0.0), ([30, 10, 0], 0.0), ([0, 0, 9], 1.0)]
)
def test_distance_is_zero_of_equal_and_one_of_disjoint(second, distance):
    """Whatever the numbers of series."""
    found = resampling.distances(np.array([3, 1, 0]), np.array(second))

    assert float(found) == pytest.approx(distance, abs=1e-7)


def test_resamples_have_the_sizes_that_were_asked_for(rng):
    """One as large as the reference, one as the profile, however large that is."""
    drawn = resampling.draw_resamples(rng, 30, 10**9)

    assert (drawn.reference.sum(axis=1) == 30).all()
    assert (drawn.profile.sum(axis=1) == 10**9).all()


def test_resampled_histograms_are_those_of_a_slow_loop(rng):
    """The matrix product counts what a loop over the drawn series would count."""
    bins = rng.integers(0, 4, size=(12, 2))
    drawn = resampling.draw_resamples(rng, 12, 25)

    found = resampling.resampled_distances(resampling.one_hot(bins, 4), drawn)

    for row in (0, 1, 999):
        for value in range(2):
            counts = np.zeros((2, 4))
            for index in range(12):
                counts[0, bins[index, value]] += drawn.profile[row, index]
                counts[1, bins[index, value]] += drawn.reference[row, index]
            assert found[row, value] == pytest.approx(_slow(*counts.tolist()), abs=1e-7)


def _mean_correlation(first, second):
    pairs = zip(first, second, strict=True)
    return float(np.mean([np.corrcoef(a, b)[0, 1] for a, b in pairs]))


def test_means_of_unrelated_maps_do_not_correlate(rng):
    """Two means of pure noise do not correlate; plain resamples of one sample do, by its noise."""
    maps = rng.normal(size=(25, 40))
    drawn = resampling.draw_resamples(rng, 25, 25)

    found = _mean_correlation(*resampling.resampled_means(maps, drawn))
    plain = _mean_correlation(drawn.reference @ maps, drawn.profile @ maps)

    assert plain > 0.35
    assert abs(found) < 0.25


def test_means_of_maps_vary_as_fresh_samples_do(rng):
    """Where there is something in common, resamples correlate as two new samples would."""
    shape = np.sin(np.arange(40) / 4)

    def sample():
        return shape + 3 * rng.normal(size=(60, 40))

    fresh = _mean_correlation(
        [sample().mean(axis=0) for _ in range(200)], [sample().mean(axis=0) for _ in range(200)]
    )
    found = np.mean(
        [
            _mean_correlation(
                *resampling.resampled_means(sample(), resampling.draw_resamples(rng, 60, 60))
            )
            for _ in range(10)
        ]
    )

    assert found == pytest.approx(fresh, abs=0.05)


def test_equal_maps_have_equal_means(rng):
    """Nothing to divide by, and no noise."""
    drawn = resampling.draw_resamples(rng, 5, 9)

    for maps in (np.zeros((5, 4)), np.ones((5, 1)) * np.arange(4.0)):
        first, second = resampling.resampled_means(maps, drawn)
        np.testing.assert_allclose(first, np.broadcast_to(maps[0] - maps[0].mean(), first.shape))
        np.testing.assert_allclose(first, second)
