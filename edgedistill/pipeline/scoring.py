"""Score variants: estimates of the report, and the choice of a variant that keeps the contract."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from edgedistill.evaluation import contract, metrics, preference
from edgedistill.evaluation.contract import Contract
from edgedistill.evaluation.evaluate import Evaluation
from edgedistill.evaluation.metrics import Estimate
from edgedistill.evaluation.preference import Preference
from edgedistill.io.arrays import AnyFloats, AnyInts, Bools

LATENCY: Final = "latency_p95_ms"  # clause that a board judges
_AUC_RESAMPLES = 100  # each costs a pass over the series a class; the others cost a mean
_Score = Callable[[AnyFloats, AnyFloats], AnyFloats]


@dataclass(frozen=True, slots=True)
class Choice:
    """The variant that is taken, and why."""

    name: str
    reason: str


def with_report_estimates(evaluation: Evaluation, labels: AnyInts) -> Evaluation:
    """Return an evaluation with the report's estimates: accuracy, calibration error and AUCs.

    Args:
        evaluation: of N series.
        labels: their classes, (N,).
    """
    logits = evaluation.explanation.logits
    probabilities = metrics.softmax(logits.astype(np.float64))
    hits = metrics.correct(logits, labels)
    confidence = probabilities.max(axis=1)
    count = len(labels)
    estimates = {
        **evaluation.estimates,
        "accuracy": metrics.estimate_mean(hits),
        "ece": metrics.estimate(
            lambda rows: metrics.expected_calibration_error(confidence[rows], hits[rows]), count
        ),
        "auc_prc": _macro(_average_precision, labels, probabilities),
        "roc_auc": _macro(_roc_auc, labels, probabilities),
    }
    return replace(evaluation, estimates=estimates)


def choose(
    estimates: Mapping[str, Mapping[str, Estimate]], terms: Contract, prefer: Preference
) -> Choice | None:
    """Choose a variant that keeps the contract.

    Args:
        estimates: estimates of each variant on the validation split, among them `size_bytes`
            and, unless it cannot be timed here, `latency_p50_ms`.
        terms: the contract.
        prefer: "size" or "latency": the smallest or fastest, the other breaks ties; what was not
            timed comes behind what was. "balanced": the smallest of those that none dominates.

    Returns:
        None if no variant keeps it.
    """
    keeping = {name: values for name, values in estimates.items() if _keeps(terms, values)}
    if not keeping:
        return None
    first, second = "size_bytes", "latency_p50_ms"
    if prefer == "latency":
        first, second = second, first
    worse = preference.dominators(keeping) if prefer == "balanced" else {}
    name = min(
        (name for name in keeping if name not in worse),
        key=lambda name: (_value(keeping[name], first), _value(keeping[name], second)),
    )
    smaller = {
        other: better
        for other, better in worse.items()
        if _value(keeping[other], "size_bytes") < _value(keeping[name], "size_bytes")
    }
    reason = f"{name} is chosen: {_rule(keeping, prefer)}"
    return Choice(name, " ".join([reason, *_dominated(keeping, smaller)]))


def _rule(keeping: Mapping[str, Mapping[str, Estimate]], prefer: Preference) -> str:
    """Return what the chosen one is among those that keep the contract."""
    if len(keeping) == 1:
        return "it alone keeps the contract on the validation series."
    rule = {"size": "the smallest", "latency": "the fastest"}.get(
        prefer, "the smallest that no other one beats in nearness to the teacher and in speed"
    )
    timed = any("latency_p50_ms" in values for values in keeping.values())
    if not timed:
        rule = "the smallest, since only a board can time them"
    return (
        f"of the {len(keeping)} variants that keep the contract on the validation series it is "
        f"{rule} (optimize.prefer: {prefer})."
    )


def _dominated(
    keeping: Mapping[str, Mapping[str, Estimate]], worse: Mapping[str, str]
) -> Iterator[str]:
    """Yield a sentence for each variant that another dominates."""
    for name, better in worse.items():
        farther = preference.loss(keeping[name]) > preference.loss(keeping[better])
        words = "farther from the teacher and no faster" if farther else "slower and no nearer"
        yield f"{name} is smaller, but {words} than {better}."


def without_latency(terms: Contract, values: Mapping[str, Estimate]) -> Contract:
    """Return the contract without the clause on latency, for a variant that was not timed.

    Only the board can time what it alone can run, and judges this clause there.
    """
    return terms if LATENCY in values else replace(terms, max_latency_p95_ms=None)


def _keeps(terms: Contract, values: Mapping[str, Estimate]) -> bool:
    return contract.verdict(contract.judge(without_latency(terms, values), values)) == "kept"


def _value(values: Mapping[str, Estimate], name: str) -> float:
    return values[name].value if name in values else float("inf")


def _macro(score: _Score, labels: AnyInts, scores: AnyFloats) -> Estimate:
    """Return a one-against-the-rest score, the mean over the classes that are there.

    Each class is sorted once; a resample only changes how often each series counts.
    """
    count = len(labels)

    def means(rows: AnyInts) -> AnyFloats:
        drawn = np.stack([np.bincount(row, minlength=count) for row in rows])  # (R, N)
        values = np.stack(
            [score(*_hits(drawn, labels == k, scores[:, k])) for k in range(scores.shape[1])]
        )
        there = np.isfinite(values)
        total, number = np.where(there, values, 0.0).sum(axis=0), there.sum(axis=0)
        undefined = np.full(len(rows), np.nan)
        mean: AnyFloats = np.divide(total, number, out=undefined, where=number > 0)
        return mean

    return metrics.estimate(means, count, resamples=_AUC_RESAMPLES)


def _hits(drawn: AnyInts, positive: Bools, scores: AnyFloats) -> tuple[AnyFloats, AnyFloats]:
    """Return true and false positives at each threshold from the highest, (R, M) both.

    Args:
        drawn: how often each series counts, (R, N).
        positive: whether a series is of the class, (N,).
        scores: scores of the class, (N,); equal ones share a threshold.
    """
    order = np.argsort(-scores, kind="stable")
    last = np.append(np.diff(scores[order]) != 0, True)
    right = np.cumsum(drawn[:, order] * positive[order], axis=1)[:, last]
    wrong = np.cumsum(drawn[:, order] * ~positive[order], axis=1)[:, last]
    return right.astype(np.float64), wrong.astype(np.float64)


def _average_precision(right: AnyFloats, wrong: AnyFloats) -> AnyFloats:
    """Return the area under precision over recall as steps, (R,); NaN with one kind of series."""
    precision = right / np.maximum(right + wrong, 1)
    found = np.diff(right, axis=1, prepend=0)
    area: AnyFloats = (found * precision).sum(axis=1)
    return _share(area, right[:, -1], wrong[:, -1] > 0)


def _roc_auc(right: AnyFloats, wrong: AnyFloats) -> AnyFloats:
    """Return the area under the ROC curve, (R,); NaN with one kind of series."""
    before = np.concatenate([np.zeros((len(right), 1)), right[:, :-1]], axis=1)
    area: AnyFloats = (np.diff(wrong, axis=1, prepend=0) * (right + before) / 2).sum(axis=1)
    return _share(area, right[:, -1] * wrong[:, -1], wrong[:, -1] > 0)


def _share(area: AnyFloats, whole: AnyFloats, is_defined: Bools) -> AnyFloats:
    undefined = np.full(len(area), np.nan)
    share: AnyFloats = np.divide(area, whole, out=undefined, where=(whole > 0) & is_defined)
    return share
