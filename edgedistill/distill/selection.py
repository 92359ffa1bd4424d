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
    saliency_pearson: float | None  # None: the teacher has no maps


def choose(trials: Sequence[Trial], samples: int) -> int:
    """Return which trial to take.

    Accuracy within one standard error of the best comes first; among those the lowest
    KL wins. Accuracy alone cannot tell trials apart on few series, KL can. Saliency
    agreement is not asked: it grows with the weight of its objective, so it would
    always take the largest, whatever that costs in answers.

    Args:
        trials: at least one.
        samples: validation series behind each accuracy.

    >>> a = Trial(weights={}, accuracy=0.90, kl=0.2, saliency_pearson=0.9)
    >>> b = Trial(weights={}, accuracy=0.89, kl=0.1, saliency_pearson=0.8)
    >>> choose([a, b], 100)
    1
    >>> choose([a, b], 100_000)
    0
    """
    best = max(trial.accuracy for trial in trials)
    slack = math.sqrt(best * (1 - best) / samples)
    close = [i for i, trial in enumerate(trials) if trial.accuracy >= best - slack]
    return min(close, key=lambda i: trials[i].kl)
