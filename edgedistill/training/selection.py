"""Which weights of the objectives are taken: decided on validation data, by a stated rule."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """A student that was trained with some weights, and how it did on validation series."""

    weights: dict[str, float]  # of each objective
    accuracy: float
    kl: float  # mean KL(teacher || student), nats
    saliency_pearson: float | None  # mean over series; None: the teacher has no maps
    epochs: int = 0  # that it had trained


def choose(trials: Sequence[Trial], samples: int) -> int:
    """Return which trial to take: the first of `rank`.

    >>> a = Trial(weights={}, accuracy=0.90, kl=0.1, saliency_pearson=0.8)
    >>> b = Trial(weights={}, accuracy=0.89, kl=0.2, saliency_pearson=0.9)
    >>> choose([a, b], 100)
    1
    >>> choose([a, b], 100_000)
    0
    """
    return rank(trials, samples)[0]


def rank(trials: Sequence[Trial], samples: int) -> list[int]:
    """Return the trials' indices, the best first.

    Those whose accuracy lies within one standard error of the best come first, ordered
    by saliency agreement: on these series their accuracies cannot be told apart, so the
    standard error bounds what reasons may cost. The others follow by accuracy. Ties, and
    all of the first where the teacher has no maps, are ordered by KL, then by place.

    Args:
        trials: at least one.
        samples: validation series behind each accuracy.
    """
    best = max(trial.accuracy for trial in trials)
    slack = math.sqrt(best * (1 - best) / samples)

    def order(index: int) -> tuple[bool, float, float]:
        trial = trials[index]
        far = trial.accuracy < best - slack
        return far, -(trial.accuracy if far else trial.saliency_pearson or 0.0), trial.kl

    return sorted(range(len(trials)), key=order)
