"""Where windows are drawn more often: where the teacher's own map says that much depends on it."""

from __future__ import annotations

import numpy as np

from edgedistill.io.arrays import Doubles, Floats, Ints
from edgedistill.saliency.perturbation import PerturbationPlan, start_count

UNIFORM = 0.5  # share of the draws that do not look at the map, so that nothing is never drawn


def start_probabilities(kl: Floats, plan: PerturbationPlan, width: int) -> Doubles:
    """Return how likely each start is for a window of each series.

    Half of it is the same for all starts; the other half is in proportion to the map,
    interpolated linearly from the middles of the plan's windows to those of the windows that
    are drawn. Beyond the outermost middles it goes on as there. Our choice.

    Args:
        kl: maps of the series, never negative, (N, W); all alike where a map is 0 everywhere.
        plan: whose windows the maps are of.
        width: w of the windows that are drawn, steps.

    Returns:
        Probabilities, (N, T - w + 1); each row sums to 1.

    Raises:
        DataError: the window does not fit the series.
    """
    number = start_count(plan.length, width)
    known, asked = plan.starts + plan.width / 2, np.arange(number) + width / 2
    scores = np.stack([np.interp(asked, known, row) for row in kl])
    total = scores.sum(axis=1, keepdims=True)
    shares = np.where(total > 0, scores / np.where(total > 0, total, 1), 1 / number)
    found: Doubles = UNIFORM / number + (1 - UNIFORM) * shares
    return found


def draw_weighted_starts(start_weights: Doubles, windows: int, rng: np.random.Generator) -> Ints:
    """Draw for each sample window starts, each by its chance; a start may repeat.

    Args:
        start_weights: probabilities of the starts, (N, places).
        windows: W, draws a sample.

    Returns:
        (N, W).
    """
    steps = start_weights.cumsum(axis=1)
    drawn = rng.random((len(start_weights), windows)) * steps[:, -1:]  # which rounds to beside 1
    pairs = zip(steps, drawn, strict=True)
    found = np.stack([np.searchsorted(step, at, side="right") for step, at in pairs])
    starts: Ints = np.minimum(found, start_weights.shape[1] - 1)
    return starts
