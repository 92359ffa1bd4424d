"""Which trial is taken."""

from __future__ import annotations

import pytest

from edgedistill.distill.selection import Trial, choose


def trial(accuracy: float, kl: float = 0.1, pearson: float | None = 0.5) -> Trial:
    return Trial(weights={}, accuracy=accuracy, kl=kl, saliency_pearson=pearson)


def test_kl_decides_among_equal_accuracies():
    assert choose([trial(0.9, 0.3), trial(0.9, 0.1), trial(0.9, 0.2)], 100) == 1


def test_accuracy_comes_first():
    """Ten points below the best are more than a hundred series leave open (3 points)."""
    assert choose([trial(0.9, 0.3), trial(0.8, 0.1)], 100) == 0


@pytest.mark.parametrize(("below", "taken"), [(0.029, 1), (0.031, 0)])
def test_one_standard_error_is_the_border(below, taken):
    """At 0.9 on a hundred series it is sqrt(0.9 * 0.1 / 100) = 0.03."""
    assert choose([trial(0.9, 0.3), trial(0.9 - below, 0.1)], 100) == taken


def test_a_perfect_trial_leaves_nothing_open():
    assert choose([trial(0.99, 0.1), trial(1.0, 0.3)], 10) == 1


@pytest.mark.parametrize("pearson", [0.99, None])
def test_saliency_is_not_asked(pearson):
    """It grows with the weight of its objective, and would always take the largest."""
    assert choose([trial(0.9, 0.1), trial(0.9, 0.2, pearson)], 100) == 0


def test_the_first_of_equals_is_taken():
    assert choose([trial(0.9), trial(0.9)], 100) == 0
