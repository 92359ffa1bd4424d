"""Which trial is taken, and in which order the others follow."""

from __future__ import annotations

import pytest

from edgedistill.training.selection import Trial, choose, rank


def trial(accuracy: float, kl: float = 0.1, pearson: float | None = 0.5) -> Trial:
    return Trial(weights={}, accuracy=accuracy, kl=kl, saliency_pearson=pearson)


def slow_rank(trials: list[Trial], samples: int) -> list[int]:
    """Take the winner of what is left, again and again; the border stays where it was."""
    best = max(t.accuracy for t in trials)
    border = best - (best * (1 - best) / samples) ** 0.5
    left, order = list(range(len(trials))), []
    while left:
        pool = [i for i in left if trials[i].accuracy >= border]
        near = bool(pool)
        pool = pool or left
        if near and trials[0].saliency_pearson is not None:
            top = max(trials[i].saliency_pearson for i in pool)
            pool = [i for i in pool if trials[i].saliency_pearson == top]
        elif not near:
            top = max(trials[i].accuracy for i in pool)
            pool = [i for i in pool if trials[i].accuracy == top]
        low = min(trials[i].kl for i in pool)
        order.append(next(i for i in pool if trials[i].kl == low))
        left.remove(order[-1])
    return order


def test_saliency_decides_among_equal_accuracies():
    """Whatever the KL."""
    trials = [trial(0.9, 0.1, 0.2), trial(0.9, 0.3, 0.7), trial(0.9, 0.2, 0.6)]

    assert choose(trials, 100) == 1


def test_accuracy_comes_first():
    """Ten points below the best are more than a hundred series leave open (3 points)."""
    assert choose([trial(0.9, 0.3, 0.1), trial(0.8, 0.1, 0.9)], 100) == 0


@pytest.mark.parametrize(("below", "taken"), [(0.029, 1), (0.031, 0)])
def test_one_standard_error_is_the_border(below, taken):
    """At 0.9 on a hundred series it is sqrt(0.9 * 0.1 / 100) = 0.03."""
    assert choose([trial(0.9, 0.1, 0.5), trial(0.9 - below, 0.3, 0.6)], 100) == taken


def test_more_series_leave_less_open():
    """The same two points of accuracy are within the error of 100 series, not of 10,000."""
    trials = [trial(0.9, pearson=0.5), trial(0.88, pearson=0.9)]

    assert [choose(trials, samples) for samples in (100, 10_000)] == [1, 0]


def test_a_perfect_trial_leaves_nothing_open():
    assert choose([trial(0.99, 0.1, 0.9), trial(1.0, 0.3, 0.1)], 10) == 1


def test_without_maps_the_lowest_kl_is_taken():
    trials = [trial(0.9, kl, None) for kl in (0.3, 0.1, 0.2)]

    assert choose(trials, 100) == 1


def test_kl_decides_among_equal_maps():
    assert choose([trial(0.9, kl) for kl in (0.3, 0.1, 0.2)], 100) == 1


def test_maps_that_disagree_are_worse_than_none_at_all():
    """The sign counts: reasons turned around are not agreement."""
    assert choose([trial(0.9, pearson=-0.9), trial(0.9, pearson=0.0)], 100) == 1


def test_the_first_of_equals_is_taken():
    assert choose([trial(0.9), trial(0.9)], 100) == 0


def test_beyond_the_border_accuracy_orders():
    """However alike the maps, and whatever the KL."""
    trials = [
        trial(0.5, 0.1, 0.9),
        trial(0.9, 0.9, 0.1),
        trial(0.6, 0.5, 0.8),
        trial(0.6, 0.2, 0.3),
    ]

    assert rank(trials, 100) == [1, 3, 2, 0]


@pytest.mark.parametrize("maps", [True, False])
def test_the_order_agrees_with_the_slow_definition(rng, maps):
    """On few values, so that there are ties of every kind."""
    for _ in range(200):
        trials = [
            trial(a, kl, float(p) if maps else None)
            for a, kl, p in zip(
                rng.choice([0.5, 0.7, 0.85, 0.88, 0.9], 7),
                rng.choice([0.1, 0.2], 7),
                rng.choice([-0.5, 0.0, 0.8], 7),
                strict=True,
            )
        ]

        assert rank(trials, 100) == slow_rank(trials, 100)
