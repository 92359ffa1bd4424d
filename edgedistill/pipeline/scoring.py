"""Measure every variant against the teacher, and take the smallest that keeps the contract."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from sklearn.metrics import average_precision_score, roc_auc_score

from edgedistill.data import Split
from edgedistill.evaluation import contract, metrics
from edgedistill.evaluation.contract import Contract
from edgedistill.evaluation.metrics import Estimate
from edgedistill.io.arrays import AnyFloats, AnyInts
from edgedistill.saliency.classifier import Classifier
from edgedistill.saliency.occlusion import Explanation
from edgedistill.saliency.perturbation import PerturbationPlan
from edgedistill.teachers.outputs import explain_teacher_class

_AUC_RESAMPLES = 100  # each costs a sort a class; the others cost a mean


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What a model said of a split, and what that is worth."""

    explanation: Explanation
    estimates: dict[str, Estimate]  # by the names that clauses use, and accuracy, AUCs, ECE


def measure(
    classifier: Classifier, split: Split, teacher: Explanation, plan: PerturbationPlan
) -> Evaluation:
    """Measure a model on held-out series.

    Args:
        classifier: the model.
        split: series and labels.
        teacher: its explanation of the same series under `plan`.
        plan: the shared plan.
    """
    return evaluate_outputs(
        explain_teacher_class(classifier, split.x, plan, teacher), split.y, teacher
    )


def evaluate_outputs(explanation: Explanation, labels: AnyInts, teacher: Explanation) -> Evaluation:
    """Return every measure of what a model said of series with these labels."""
    probabilities = metrics.softmax(explanation.logits.astype(np.float64))
    hits = metrics.correct(explanation.logits, labels)
    confidence = probabilities.max(axis=1)
    count = len(labels)
    estimates = {
        **contract.compare(teacher, explanation, labels),
        "accuracy": metrics.estimate_mean(hits),
        "ece": metrics.estimate(
            lambda rows: metrics.expected_calibration_error(confidence[rows], hits[rows]), count
        ),
        "auc_prc": _macro(average_precision_score, labels, probabilities),
        "roc_auc": _macro(roc_auc_score, labels, probabilities),
    }
    return Evaluation(explanation, estimates)


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
    return terms if "latency_p95_ms" in values else replace(terms, max_latency_p95_ms=None)


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
