"""Starts drawn by the teacher's map against slow definitions."""

from __future__ import annotations

import numpy as np
import pytest

from edgedistill.errors import DataError
from edgedistill.saliency.perturbation import PerturbationPlan
from edgedistill.teachers.importance import UNIFORM, draw_weighted_starts, start_probabilities

PLAN = PerturbationPlan(length=20, width=6, stride=3)  # middles 3, 6, 9, 12, 15, 17
KL = np.array([[0, 3, 6, 0, 0, 2], [1, 1, 1, 1, 1, 1], [0, 0, 0, 0, 0, 0]], np.float32)


def _slow(row: np.ndarray, width: int) -> list[float]:
    """Half the same for all, half by the map between the two nearest middles; a start at a time."""
    middles = [start + 3 for start in PLAN.starts]
    scores = []
    for start in range(20 - width + 1):
        at = min(max(start + width / 2, middles[0]), middles[-1])
        right = next(i for i, middle in enumerate(middles) if middle >= at)
        left = max(right - 1, 0)
        gap = middles[right] - middles[left]
        share = (at - middles[left]) / gap if gap else 0.0
        scores.append((1 - share) * row[left] + share * row[right])
    return [0.5 / len(scores) + 0.5 * score / sum(scores) for score in scores]


@pytest.mark.parametrize("width", [1, 4, 6, 11, 20])
def test_chances_agree_with_a_slow_definition(width):
    chances = start_probabilities(KL[:2], PLAN, width)

    np.testing.assert_allclose(chances, [_slow(row, width) for row in KL[:2]], atol=1e-12)


def test_every_start_has_a_chance_and_together_they_are_certain():
    chances = start_probabilities(KL, PLAN, 4)

    np.testing.assert_allclose(chances.sum(axis=1), 1)
    assert chances.min() >= UNIFORM / 17
    assert chances[0].argmax() == 7  # whose middle is that of the highest window
    np.testing.assert_allclose(chances[2], 1 / 17)  # a map that says nothing


def test_a_window_that_does_not_fit_is_refused():
    with pytest.raises(DataError, match="window of 21 steps does not fit a series of 20"):
        start_probabilities(KL, PLAN, 21)


def test_starts_are_as_frequent_as_their_chances(rng):
    chances = start_probabilities(KL, PLAN, 4)

    starts = draw_weighted_starts(chances, 40_000, rng)

    for row, expected in zip(starts, chances, strict=True):
        np.testing.assert_allclose(np.bincount(row, minlength=17) / 40_000, expected, atol=0.01)


def test_the_last_start_is_drawn_and_none_beyond_it():
    """Also where the chances sum to a little less than 1."""

    class Highest:
        def random(self, shape):
            return np.full(shape, np.nextafter(1, 0))

    chances = np.full((1, 10), 0.1 - 1e-17)

    assert draw_weighted_starts(chances, 3, Highest()).tolist() == [[9, 9, 9]]


def test_a_start_without_a_chance_is_never_drawn(rng):
    starts = draw_weighted_starts(np.array([[0, 0.5, 0, 0.5, 0]]), 1000, rng)

    assert set(starts.ravel().tolist()) == {1, 3}
