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
from edgedistill.io.arrays import AnyFloats, AnyInts

LATENCY: Final = "latency_p95_ms"  # clause that a board judges
_AUC_RESAMPLES = 100  # each costs a sort a class; the others cost a mean


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
    from sklearn.metrics import average_precision_score, roc_auc_score  # takes a second

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
        "auc_prc": _macro(average_precision_score, labels, probabilities),
        "roc_auc": _macro(roc_auc_score, labels, probabilities),
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


def _macro(
    score: Callable[[AnyInts, AnyFloats], float], labels: AnyInts, scores: AnyFloats
) -> Estimate:
    """Return a one-against-the-rest score, the mean over the classes that are there."""

    def one(rows: AnyInts) -> float:
        drawn = labels[rows]
        classes = [k for k in np.unique(drawn) if (drawn != k).any()]
        values = [score((drawn == k).astype(int), scores[rows, k]) for k in classes]
        return float(np.mean(values)) if values else float("nan")

    return metrics.estimate(
        lambda rows: np.array([one(row) for row in rows]), len(labels), resamples=_AUC_RESAMPLES
    )
