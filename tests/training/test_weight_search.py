"""Who trains on, how far, and at what cost."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest

from edgedistill.training.selection import Trial, choose
from edgedistill.training.weight_search import (
    HalvingStage,
    halving_schedule,
    run_successive_halving,
)

SAMPLES = 1_000_000  # so many that accuracy alone decides


def trial(accuracy: float, pearson: float = 0.5) -> Trial:
    return Trial(weights={}, accuracy=accuracy, kl=0.1, saliency_pearson=pearson)


@pytest.mark.parametrize("candidates", [1, 2, 3, 5, 8, 9, 27, 100])
@pytest.mark.parametrize("epochs", [1, 2, 7, 90, 500])
@pytest.mark.parametrize("share", [0.0, 1 / 3, 0.99])
@pytest.mark.parametrize("eta", [2, 3])
def test_what_every_ladder_keeps(candidates, epochs, share, eta):
    """Epochs rise to the end, candidates fall by eta, nobody is judged before `before`."""
    before = int(share * epochs)

    rungs = halving_schedule(candidates, before=before, epochs=epochs, eta=eta, first=0.1)

    ends = [rung.epoch for rung in rungs]
    assert ends == sorted(set(ends))
    assert before < ends[0]
    assert ends[-1] == epochs
    assert rungs[0].candidates == candidates
    for one, other in pairwise(rungs):
        assert other.candidates == math.ceil(one.candidates / eta)
    if len(rungs) > 1:
        assert ends[0] - before >= 0.1 * (epochs - before)


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_the_cost_is_bounded(depth):
    """No rung trains more epochs than all candidates up to the first one."""
    number, epochs = 3**depth, 810

    rungs = halving_schedule(number, before=0, epochs=epochs, eta=3, first=0.01)

    ends = [0, *(rung.epoch for rung in rungs)]
    trained = sum(r.candidates * (r.epoch - end) for r, end in zip(rungs, ends, strict=False))
    assert len(rungs) == depth + 1
    assert trained <= len(rungs) * number * ends[1]
    assert trained < 0.6 * number * epochs


def test_the_least_share_leaves_rungs_out():
    ends = {
        first: [r.epoch for r in halving_schedule(27, before=0, epochs=270, eta=3, first=first)]
        for first in (0.01, 0.1, 0.2, 1.0)
    }

    assert ends == {0.01: [10, 30, 90, 270], 0.1: [30, 90, 270], 0.2: [90, 270], 1.0: [270]}


def slow_climb(rungs: list[HalvingStage], table: list[list[float]]) -> list[int]:
    """Return how many rungs each candidate reaches: strike out the worst, one at a time."""
    alive, reached = set(range(len(table))), [0] * len(table)
    for number, rung in enumerate(rungs):
        while len(alive) > rung.candidates:
            alive.remove(min(alive, key=lambda i, n=number: (table[i][n - 1], -i)))
        for candidate in alive:
            reached[candidate] += 1
    return reached


@pytest.mark.parametrize("candidates", [1, 4, 9, 20])
def test_the_better_ones_go_on(rng, candidates):
    """As the slow definition has it; the chosen one is the best of the last rung."""
    rungs = halving_schedule(candidates, before=0, epochs=90, eta=3, first=0.01)
    table = rng.choice([0.5, 0.6, 0.7, 0.8], size=(candidates, len(rungs))).tolist()
    calls = []

    def train(candidate: int, rung: int) -> Trial:
        calls.append((rung, candidate))
        return trial(table[candidate][rung])

    scores, chosen = run_successive_halving(rungs, train, SAMPLES)

    reached = slow_climb(rungs, table)
    assert [len(known) for known in scores] == reached
    assert calls == sorted(calls)  # rung by rung, nobody twice
    last = [i for i in range(candidates) if reached[i] == len(rungs)]
    assert chosen == last[choose([scores[i][-1] for i in last], SAMPLES)]


def test_who_improves_late_is_left_behind():
    """The price: the best in the end never gets there if it is the worst at the first rung."""
    rungs = [HalvingStage(10, 3), HalvingStage(30, 1)]
    table = [[0.6, 0.99], [0.7, 0.8], [0.65, 0.9]]

    scores, chosen = run_successive_halving(rungs, lambda i, rung: trial(table[i][rung]), SAMPLES)

    assert chosen == 1
    assert [len(known) for known in scores] == [1, 2, 1]


def test_within_one_standard_error_reasons_decide_who_goes_on():
    """At 0.9 on a hundred series the border is 0.87: the third is out, whatever its maps."""
    first = [trial(0.9, pearson=0.1), trial(0.88, pearson=0.8), trial(0.86, pearson=0.9)]

    _, chosen = run_successive_halving(
        [HalvingStage(10, 3), HalvingStage(30, 1)], lambda i, _: first[i], 100
    )

    assert chosen == 1
