"""The one evaluation: a classifier on labeled series against its teacher's explanation of them.

Student, variants, candidates of a search, experiments and boards share it. NumPy only.
"""

from __future__ import annotations

from dataclasses import dataclass

from edgedistill.evaluation import contract, metrics
from edgedistill.evaluation.metrics import Estimate
from edgedistill.io.arrays import AnyFloats, AnyInts, Floats, Ints
from edgedistill.saliency.classifier import Classifier
from edgedistill.saliency.occlusion import Explanation, explain_classifier
from edgedistill.saliency.perturbation import PerturbationPlan


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The explanation of a split by a classifier, and its measures."""

    explanation: Explanation
    estimates: dict[str, Estimate]  # by the names that clauses use, and what a report adds


def evaluate(
    classifier: Classifier,
    series: Floats,
    labels: AnyInts,
    teacher: Explanation,
    plan: PerturbationPlan,
) -> Evaluation:
    """Explain labeled series and measure the agreement with the teacher.

    Args:
        classifier: the model.
        series: held-out series, (N, C, T).
        labels: their classes, (N,).
        teacher: the teacher's explanation of the same series under `plan`.
        plan: perturbation plan of both.
    """
    return evaluate_explanation(
        explain_teacher_class(classifier, series, plan, teacher), labels, teacher
    )


def evaluate_explanation(
    explanation: Explanation, labels: AnyInts, teacher: Explanation
) -> Evaluation:
    """Measure the agreement of an explanation, of series with these labels, with the teacher's."""
    return Evaluation(explanation, contract.compare(teacher, explanation, labels))


def explain_teacher_class(
    classifier: Classifier, series: Floats, plan: PerturbationPlan, teacher: Explanation
) -> Explanation:
    """Explain series by a classifier's maps of the class that the teacher predicts."""
    targets: Ints = teacher.logits.argmax(axis=1)
    return explain_classifier(classifier, series, plan, targets=targets)


def map_agreement(
    classifier: Classifier, series: Floats, plan: PerturbationPlan, teacher: Explanation
) -> AnyFloats:
    """Return the Pearson correlation of a classifier's signed map with the teacher's, (N,)."""
    explanation = explain_teacher_class(classifier, series, plan, teacher)
    return metrics.pearson(teacher.signed, explanation.signed)
