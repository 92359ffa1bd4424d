"""Successive halving: every candidate trains a little, the better ones train on.

Source: Jamieson and Talwalkar 2016, arXiv:1502.07943; synchronous, and counted from the
epoch in which the last objective has joined, because no weights are kept before it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from edgedistill.training.selection import Trial, rank


@dataclass(frozen=True, slots=True)
class HalvingStage:
    """A place where candidates are compared."""

    epoch: int  # up to which they train
    candidates: int  # that get there


def halving_schedule(
    candidates: int, *, before: int, epochs: int, eta: int, first: float
) -> list[HalvingStage]:
    """Return the rungs, the last at the end of training.

    The last rung lies at the end, the one before it at 1/eta of the way there, and so on,
    while each has eta times as many candidates as the next (rounded up). A training too
    short for all of its rungs has fewer.

    Args:
        candidates: that begin.
        before: epochs that no candidate is judged on, because an objective has yet to join.
        epochs: of the whole training.
        eta: of how many candidates one goes on; at least 2.
        first: least share of the epochs after `before` that every candidate trains.

    >>> halving_schedule(9, before=0, epochs=90, eta=3, first=0.1)
    [Rung(epoch=10, candidates=9), Rung(epoch=30, candidates=3), Rung(epoch=90, candidates=1)]
    >>> halving_schedule(5, before=30, epochs=90, eta=3, first=0.1)
    [Rung(epoch=50, candidates=5), Rung(epoch=90, candidates=2)]
    """
    ends = [epochs]
    parts = eta
    while parts <= candidates and parts * first <= 1:
        end = before + math.ceil((epochs - before) / parts)
        if end == ends[-1]:
            break
        ends.append(end)
        parts *= eta
    rungs = []
    for end in reversed(ends):
        rungs.append(HalvingStage(end, candidates))
        candidates = math.ceil(candidates / eta)
    return rungs


def run_successive_halving(
    stages: Sequence[HalvingStage], train: Callable[[int, int], Trial], samples: int
) -> tuple[list[list[Trial]], int]:
    """Train candidates from rung to rung, at each only the best of the one before.

    Args:
        stages: of `halving_schedule`.
        train: takes a candidate and a rung, both by number, and tells how it does there.
        samples: validation series behind each accuracy.

    Returns:
        How each candidate did at every rung that it reached, and which is the best of the
        last rung. A candidate that was left behind is never chosen, however it would have
        ended.
    """
    alive = list(range(stages[0].candidates))
    scores: list[list[Trial]] = [[] for _ in alive]
    for number, rung in enumerate(stages):
        alive = sorted(alive[: rung.candidates])
        for candidate in alive:
            scores[candidate].append(train(candidate, number))
        order = rank([scores[candidate][-1] for candidate in alive], samples)
        alive = [alive[place] for place in order]
    return scores, alive[0]
