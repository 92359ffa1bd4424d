"""Which trial is taken."""

from __future__ import annotations

import pytest

from edgedistill.distill.selection import Trial, choose


def trial(accuracy: float, pearson: float | None, kl: float = 0.1) -> Trial:
    return Trial(weights={}, accuracy=accuracy, kl=kl, saliency_pearson=pearson)


def test_saliency_decides_among_equal_accuracies():
    assert choose([trial(0.9, 0.5), trial(0.9, 0.8), trial(0.9, 0.7)], 100) == 1


def test_accuracy_comes_first():
    """Ten points below the best are more than a hundred series leave open (3 points)."""
    assert choose([trial(0.9, 0.1), trial(0.8, 0.9)], 100) == 0


@pytest.mark.parametrize(("below", "taken"), [(0.029, 1), (0.031, 0)])
def test_one_standard_error_is_the_border(below, taken):
    """At 0.9 on a hundred series it is sqrt(0.9 * 0.1 / 100) = 0.03."""
    assert choose([trial(0.9, 0.1), trial(0.9 - below, 0.9)], 100) == taken


def test_a_perfect_trial_leaves_nothing_open():
    assert choose([trial(0.99, 0.9), trial(1.0, 0.1)], 10) == 1


def test_without_maps_the_lowest_kl_decides():
    trials = [trial(0.9, None, kl=0.3), trial(0.9, None, kl=0.1), trial(0.9, None, kl=0.2)]

    assert choose(trials, 100) == 1


def test_the_first_of_equals_is_taken():
    assert choose([trial(0.9, 0.5), trial(0.9, 0.5)], 100) == 0
