"""Statistics of an experiment's table: means, intervals, ranks, tests.

A method's score on a set is its mean over student seeds. Its interval is Student's t: a
bootstrap of three to five values is far too narrow. It covers the choice of student seeds
only; the teacher and the split of a set are fixed.
"""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from edgedistill.errors import DataError
from edgedistill.evaluation.metrics import Estimate
from edgedistill.experiment.results import MEASURES, Row
from edgedistill.io.arrays import Doubles

ALPHA = 0.05
LOWER_IS_BETTER = frozenset({"kl", "ece", "validation_kl"})
FEWEST_FOR_RANKS = 2  # sets; of methods, Friedman's test and the diagram take three
_LARGEST_EXACT = 20  # sets; beyond, no smallest p needs a warning


@dataclass(frozen=True, slots=True)
class Pair:
    """Two methods under a two-sided Wilcoxon signed-rank test over sets."""

    first: str
    second: str
    wins: int  # sets on which the first is better
    losses: int
    p: float
    adjusted_p: float  # by Holm, over all pairs


@dataclass(frozen=True, slots=True)
class Comparison:
    """Comparison of methods by one measure."""

    metric: str
    methods: tuple[str, ...]
    sets: tuple[str, ...]  # on which every method has a score
    left_out: tuple[str, ...]  # sets on which a method has none
    scores: Doubles  # (sets, methods)
    ranks: Doubles  # mean over sets, (methods,); 1 is best
    friedman_p: float | None  # None: fewer than three methods or two sets, or all the same
    pairs: tuple[Pair, ...]
    notes: tuple[str, ...]  # limits of the statistics


def compare(rows: Sequence[Row], metric: str) -> Comparison:
    """Compare methods by a measure.

    Raises:
        DataError: there is no such measure, or no set has a score of every method.
    """
    if metric not in MEASURES:
        raise DataError(f"There is no measure {metric!r}. Choose one of {', '.join(MEASURES)}.")
    methods = tuple(dict.fromkeys(row.method for row in rows))
    all_sets = tuple(dict.fromkeys(row.set for row in rows))
    means = {(s, m): e.value for (s, m), e in estimates(rows, metric).items()}
    sets = tuple(s for s in all_sets if all((s, m) in means for m in methods))
    if not sets:
        raise DataError(
            f"No set has {metric} of every method, so there is nothing to compare. Run the "
            "experiment to its end, or see the column error of its table."
        )
    scores = np.array([[means[s, m] for m in methods] for s in sets])
    signs = -1.0 if metric in LOWER_IS_BETTER else 1.0
    return Comparison(
        metric=metric,
        methods=methods,
        sets=sets,
        left_out=tuple(s for s in all_sets if s not in sets),
        scores=scores,
        ranks=np.asarray(stats.rankdata(-signs * scores, axis=1).mean(axis=0)),
        friedman_p=_friedman(scores),
        pairs=_pairs(signs * scores, methods),
        notes=_notes(len(sets), len(methods)),
    )


def estimates(rows: Sequence[Row], column: str) -> dict[tuple[str, str], Estimate]:
    """Mean over seeds of a column by set and method, with its 95 % t-interval.

    One seed has no interval: both ends are the value.
    """
    values: dict[tuple[str, str], list[float]] = {}
    for row in rows:
        if column in row.numbers and row.error is None:
            values.setdefault((row.set, row.method), []).append(row.numbers[column])
    return {key: estimate(of_seeds, limits(column)) for key, of_seeds in values.items()}


def limits(column: str) -> tuple[float, float]:
    """Bounds of a measure."""
    if column == "kl":
        return 0.0, np.inf
    return (-1.0 if column.startswith(("saliency_", "unseen_")) else 0.0), 1.0


def estimate(values: Sequence[float], limits: tuple[float, float] = (-np.inf, np.inf)) -> Estimate:
    """Mean over seeds with its 95 % t-interval, clipped to the bounds of the measure.

    >>> mean = estimate([0.8, 0.9, 1.0], limits=(0.0, 1.0))
    >>> round(mean.low, 3), round(mean.value, 3), round(mean.high, 3)
    (0.652, 0.9, 1.0)
    """
    mean = float(np.mean(values))
    if len(values) < 2:
        return Estimate(mean, mean, mean)
    half = float(stats.t.ppf(0.975, len(values) - 1) * stats.sem(values))
    return Estimate(mean, max(mean - half, limits[0]), min(mean + half, limits[1]))


def references(rows: Sequence[Row], column: str) -> dict[str, float]:
    """Values of a column that is the same in all rows of a set, by set."""
    return {row.set: row.numbers[column] for row in rows if column in row.numbers}


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust p-values for their number by Holm's method.

    Source: Holm 1979, A simple sequentially rejective multiple test procedure.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    order = np.argsort(p_values, kind="stable")
    factors = np.arange(len(p_values), 0, -1)
    raised = np.minimum(1, np.maximum.accumulate(np.asarray(p_values)[order] * factors))
    adjusted = np.empty(len(p_values))
    adjusted[order] = raised
    return [float(p) for p in adjusted]


def _friedman(scores: Doubles) -> float | None:
    sets, methods = scores.shape
    if methods < 3 or sets < FEWEST_FOR_RANKS or (scores == scores[:, :1]).all():
        return None
    return float(stats.friedmanchisquare(*scores.T).pvalue)


def _pairs(scores: Doubles, methods: Sequence[str]) -> tuple[Pair, ...]:
    """Compare every two methods; higher `scores` are better."""
    indices = list(itertools.combinations(range(len(methods)), 2))
    p_values = [_wilcoxon(scores[:, i] - scores[:, j]) for i, j in indices]
    return tuple(
        Pair(
            first=methods[i],
            second=methods[j],
            wins=int((scores[:, i] > scores[:, j]).sum()),
            losses=int((scores[:, i] < scores[:, j]).sum()),
            p=p,
            adjusted_p=adjusted,
        )
        for (i, j), p, adjusted in zip(indices, p_values, holm(p_values), strict=True)
    )


def _wilcoxon(differences: Doubles) -> float:
    """Two-sided p of a signed-rank test; 1 without any difference."""
    if not differences.any():
        return 1.0
    with warnings.catch_warnings():  # few sets: a note warns of that
        warnings.simplefilter("ignore", UserWarning)
        return float(stats.wilcoxon(differences, zero_method="wilcox").pvalue)


def _notes(sets: int, methods: int) -> tuple[str, ...]:
    """Notes on too few sets or methods."""
    notes = []
    pairs = methods * (methods - 1) // 2
    smallest = 2.0 ** (1 - sets)  # one method is better on every set
    if pairs and sets <= _LARGEST_EXACT and smallest * pairs >= ALPHA:
        enough = next(n for n in itertools.count(sets) if 2.0 ** (1 - n) * pairs < ALPHA)
        notes.append(
            f"{sets} sets are too few to tell methods apart: the smallest p that Wilcoxon's test "
            f"can give is {smallest:.3g}, times {pairs} by Holm. At least {enough} sets are needed "
            f"for {methods} methods."
        )
    if methods == 2:
        notes.append("Two methods: Wilcoxon's test says it all; Friedman's takes three.")
    if methods == 1:
        notes.append("One method: there is nothing to rank.")
    return tuple(notes)
