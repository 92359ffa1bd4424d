"""Sections of a report from measured arrays: confusion, calibration, examples, curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from edgedistill.evaluation import metrics
from edgedistill.evaluation.metrics import Estimate
from edgedistill.io.arrays import AnyFloats, AnyInts, Floats
from edgedistill.report.facts import Bin, Confusion, Epoch, Example, Metrics, Saliency
from edgedistill.saliency.occlusion import Explanation, time_map
from edgedistill.saliency.perturbation import PerturbationPlan

_BINS = 10


def make_metrics(
    estimates: Mapping[str, Estimate], unseen: Estimate | None, *, agrees: bool = True
) -> Metrics:
    """Return the measures of a model.

    Args:
        estimates: estimates by name.
        unseen: agreement of maps under a plan that nothing was tuned to.
        agrees: whether agreement with the teacher is a measurement; of the teacher it is none.
    """
    match = estimates if agrees else {}
    return Metrics(
        accuracy=estimates["accuracy"],
        auc_prc=estimates["auc_prc"],
        roc_auc=estimates["roc_auc"],
        ece=estimates["ece"],
        agreement=match.get("agreement"),
        kl=match.get("kl"),
        saliency=Saliency(
            spearman=match.get("saliency_spearman"),
            pearson=match.get("saliency_pearson"),
            topk=match.get("saliency_topk"),
            unseen=unseen,
        ),
    )


def make_curve(history: Sequence[Mapping[str, Any]]) -> tuple[Epoch, ...]:
    """Return the learning curves of a training, from an entry an epoch."""
    return tuple(
        Epoch(
            epoch=point["epoch"],
            train_loss=point["train_loss"],
            validation_loss=point["validation_loss"],
            validation_accuracy=point["validation_accuracy"],
        )
        for point in history
    )


def make_confusion(
    names: tuple[str, ...], labels: AnyInts, teacher: AnyFloats, student: AnyFloats
) -> Confusion:
    """Return the confusion matrices of teacher and student.

    Args:
        names: names of the classes, (K,).
        labels: classes of the series, (N,).
        teacher: logits of the teacher, (N, K).
        student: logits of the student, (N, K).
    """

    def count(logits: AnyFloats) -> list[list[int]]:
        table = np.zeros((len(names), len(names)), dtype=int)
        np.add.at(table, (labels, logits.argmax(axis=1)), 1)
        counts: list[list[int]] = table.tolist()
        return counts

    return Confusion(labels=names, teacher=count(teacher), student=count(student))


def calibration_bins(logits: AnyFloats, labels: AnyInts) -> tuple[Bin, ...]:
    """Return mean confidence and accuracy of the series in each bin of confidence."""
    confidence = metrics.softmax(logits).max(axis=1)
    hits = metrics.correct(logits, labels)
    index = np.minimum((confidence * _BINS).astype(int), _BINS - 1)
    return tuple(
        Bin(
            confidence=float(confidence[index == k].mean()),
            accuracy=float(hits[index == k].mean()),
            count=int((index == k).sum()),
        )
        for k in np.unique(index)
    )


def make_examples(
    series: Floats,
    labels: AnyInts,
    names: Sequence[str],
    teacher: Explanation,
    student: Explanation,
    plan: PerturbationPlan,
) -> tuple[Example, ...]:
    """Return the series whose maps agree most, middling and least.

    Args:
        series: series, (N, C, T).
        labels: their classes, (N,).
        names: names of the classes, (K,).
        teacher: the teacher's explanation of them.
        student: the student's.
        plan: plan of both.
    """
    match = metrics.pearson(teacher.signed, student.signed)
    order = np.argsort(match, kind="stable")
    picks = {"best": order[-1], "median": order[len(order) // 2], "worst": order[0]}
    return tuple(
        Example(
            title=f"{title} agreement",
            index=int(row),
            label=names[labels[row]],
            teacher_class=names[teacher.logits[row].argmax()],
            student_class=names[student.logits[row].argmax()],
            pearson=float(match[row]),
            series=series[row].tolist(),
            teacher_map=time_map(teacher.signed[row : row + 1], plan)[0].tolist(),
            student_map=time_map(student.signed[row : row + 1], plan)[0].tolist(),
        )
        for title, row in picks.items()
    )
