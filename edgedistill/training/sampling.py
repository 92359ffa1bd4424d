"""Points drawn evenly between bounds, for weights that no list names."""

from __future__ import annotations

import warnings
from collections.abc import Sequence


def draw(bounds: Sequence[tuple[float, float]], points: int, *, seed: int) -> list[list[float]]:
    """Return points that fill the box between bounds evenly, on a log scale.

    All of them are known before the first is tried, because successive halving compares
    candidates side by side. So Optuna samples and nothing else: a sampler that learns from
    results would have none yet. Halton's sequence, scrambled by the seed, leaves smaller
    gaps than independent draws, for any number of points.

    Args:
        bounds: lowest and highest value of each dimension, above 0.
        points: how many.
        seed: decides which.
    """
    import optuna  # takes a second, and most recipes draw nothing

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        sampler = optuna.samplers.QMCSampler(qmc_type="halton", scramble=True, seed=seed)
    study = optuna.create_study(sampler=sampler)
    space: dict[str, optuna.distributions.BaseDistribution] = {
        f"{place:04}": optuna.distributions.FloatDistribution(low, high, log=True)
        for place, (low, high) in enumerate(bounds)
    }
    drawn = [study.ask(space).params for _ in range(points)]
    return [[point[name] for name in space] for point in drawn]
