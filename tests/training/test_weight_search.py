"""The schedule and cost of successive halving, the choice of trials, the points drawn."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest

from edgedistill.training.weight_search import (
    HalvingStage,
    Trial,
    choose,
    draw,
    halving_schedule,
    rank,
    run_successive_halving,
)

SAMPLES = 1_000_000  # so many that accuracy alone decides
BOUNDS = [(0.1, 100.0), (1.0, 2.0)]


def trial(accuracy: float, kl: float = 0.1, pearson: float | None = 0.5) -> Trial:
    return Trial(weights={}, accuracy=accuracy, kl=kl, saliency_pearson=pearson)


@pytest.mark.parametrize("candidates", [1, 2, 3, 5, 8, 9, 27, 100])
@pytest.mark.parametrize("epochs", [1, 2, 7, 90, 500])
@pytest.mark.parametrize("share", [0.0, 1 / 3, 0.99])
@pytest.mark.parametrize("eta", [2, 3])
def test_schedules_rise_in_epochs_and_fall_in_candidates(candidates, epochs, share, eta):
    """Epochs rise to the end, candidates fall by eta, nobody is judged before `before`."""
    before = int(share * epochs)

    stages = halving_schedule(candidates, before=before, epochs=epochs, eta=eta, first=0.1)

    ends = [stage.epoch for stage in stages]
    assert ends == sorted(set(ends))
    assert before < ends[0]
    assert ends[-1] == epochs
    assert stages[0].candidates == candidates
    for one, other in pairwise(stages):
        assert other.candidates == math.ceil(one.candidates / eta)
    if len(stages) > 1:
        assert ends[0] - before >= 0.1 * (epochs - before)


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_the_cost_is_bounded(depth):
    """No stage trains more epochs than all candidates up to the first one."""
    number, epochs = 3**depth, 810

    stages = halving_schedule(number, before=0, epochs=epochs, eta=3, first=0.01)

    ends = [0, *(stage.epoch for stage in stages)]
    trained = sum(r.candidates * (r.epoch - end) for r, end in zip(stages, ends, strict=False))
    assert len(stages) == depth + 1
    assert trained <= len(stages) * number * ends[1]
    assert trained < 0.6 * number * epochs


def test_the_least_share_leaves_stages_out():
    ends = {
        first: [r.epoch for r in halving_schedule(27, before=0, epochs=270, eta=3, first=first)]
        for first in (0.01, 0.1, 0.2, 1.0)
    }

    assert ends == {0.01: [10, 30, 90, 270], 0.1: [30, 90, 270], 0.2: [90, 270], 1.0: [270]}


def slow_halving(stages: list[HalvingStage], table: list[list[float]]) -> list[int]:
    """Return the number of stages that each candidate reaches: drop the worst, one at a time."""
    alive, reached = set(range(len(table))), [0] * len(table)
    for number, stage in enumerate(stages):
        while len(alive) > stage.candidates:
            alive.remove(min(alive, key=lambda i, n=number: (table[i][n - 1], -i)))
        for candidate in alive:
            reached[candidate] += 1
    return reached


@pytest.mark.parametrize("candidates", [1, 4, 9, 20])
def test_better_candidates_advance(rng, candidates):
    """As the slow definition has it; the chosen one is the best of the last stage."""
    stages = halving_schedule(candidates, before=0, epochs=90, eta=3, first=0.01)
    table = rng.choice([0.5, 0.6, 0.7, 0.8], size=(candidates, len(stages))).tolist()
    calls = []

    def train(candidate: int, stage: int) -> Trial:
        calls.append((stage, candidate))
        return trial(table[candidate][stage])

    scores, chosen = run_successive_halving(stages, train, SAMPLES)

    reached = slow_halving(stages, table)
    assert [len(known) for known in scores] == reached
    assert calls == sorted(calls)  # stage by stage, nobody twice
    last = [i for i in range(candidates) if reached[i] == len(stages)]
    assert chosen == last[choose([scores[i][-1] for i in last], SAMPLES)]


def test_a_candidate_that_improves_late_is_dropped():
    """The price: the best in the end never gets there if it is the worst at the first stage."""
    stages = [HalvingStage(10, 3), HalvingStage(30, 1)]
    table = [[0.6, 0.99], [0.7, 0.8], [0.65, 0.9]]

    scores, chosen = run_successive_halving(
        stages, lambda i, stage: trial(table[i][stage]), SAMPLES
    )

    assert chosen == 1
    assert [len(known) for known in scores] == [1, 2, 1]


def test_saliency_decides_who_advances_within_one_standard_error():
    """At 0.9 on a hundred series the border is 0.87: the third is out, whatever its maps."""
    first = [trial(0.9, pearson=0.1), trial(0.88, pearson=0.8), trial(0.86, pearson=0.9)]

    _, chosen = run_successive_halving(
        [HalvingStage(10, 3), HalvingStage(30, 1)], lambda i, _: first[i], 100
    )

    assert chosen == 1


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


def test_more_series_narrow_the_standard_error():
    """The same two points of accuracy are within the error of 100 series, not of 10,000."""
    trials = [trial(0.9, pearson=0.5), trial(0.88, pearson=0.9)]

    assert [choose(trials, samples) for samples in (100, 10_000)] == [1, 0]


def test_a_perfect_trial_has_no_standard_error():
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
