"""Score variants: estimates of the report, and the choice of a variant that keeps the contract."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final, Literal

import numpy as np

from edgedistill.evaluation import contract, metrics
from edgedistill.evaluation.contract import Contract
from edgedistill.evaluation.evaluate import Evaluation
from edgedistill.evaluation.metrics import Estimate
from edgedistill.io.arrays import AnyFloats, AnyInts

LATENCY: Final = "latency_p95_ms"  # clause that a board judges
_AUC_RESAMPLES = 100  # each costs a sort a class; the others cost a mean


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
    estimates: Mapping[str, Mapping[str, Estimate]],
    terms: Contract,
    prefer: Literal["size", "latency"],
) -> str | None:
    """Return the name of the smallest, or fastest, variant that keeps the contract.

    Args:
        estimates: estimates of each variant on the validation split, among them `size_bytes`
            and, unless it cannot be timed here, `latency_p50_ms`.
        terms: the contract.
        prefer: what counts first; the other breaks ties. What was not timed comes behind what
            was, the smallest first.

    Returns:
        None if no variant keeps it.
    """
    first, second = (
        ("size_bytes", "latency_p50_ms") if prefer == "size" else ("latency_p50_ms", "size_bytes")
    )
    keeping = [name for name, values in estimates.items() if _keeps(terms, values)]
    return min(
        keeping,
        key=lambda name: (_value(estimates[name], first), _value(estimates[name], second)),
        default=None,
    )


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
