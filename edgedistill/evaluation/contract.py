"""The contract: thresholds of the agreement with the teacher, and their judgement.

The same clauses are judged on the workstation and on the board. NumPy only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from edgedistill.errors import ConfigError, UsageError
from edgedistill.evaluation import metrics
from edgedistill.evaluation.metrics import Estimate
from edgedistill.io.arrays import AnyInts

if TYPE_CHECKING:  # a prediction on a board starts faster without it
    from edgedistill.saliency.occlusion import Explanation

Verdict = Literal["kept", "broken"]
Comparison = Literal[">=", "<="]


@dataclass(frozen=True, slots=True, kw_only=True)
class Contract:
    """Thresholds; `None` switches a clause off.

    Everything is measured against the teacher on the same series, under one plan.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}  # for the recipe

    max_accuracy_drop: float | None = 0.03  # teacher's accuracy less the model's
    min_agreement: float | None = 0.9  # share of series with the same top class
    max_kl: float | None = 0.5  # mean KL(teacher || model), nats
    min_saliency_pearson: float | None = 0.75  # mean over series, signed maps
    min_saliency_spearman: float | None = 0.6  # mean over series, signed maps
    max_size_bytes: float | None = None  # of the model file
    max_latency_p95_ms: float | None = None  # of one series, on the machine that validates

    def __post_init__(self) -> None:
        for name, threshold in asdict(self).items():
            number = isinstance(threshold, (int, float)) and np.isfinite(threshold)
            if threshold is not None and not number:
                raise ConfigError(f"contract.{name} is {threshold!r}; give a number or null.")

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Contract:
        """Return the contract of a dictionary that `dataclasses.asdict` made.

        Raises:
            ConfigError: a clause is unknown, or its threshold no number.
        """
        unknown = set(values) - {field.name for field in fields(cls)}
        if unknown:
            raise ConfigError(
                f"A contract has no clause {', '.join(sorted(unknown))}. It knows "
                f"{', '.join(field.name for field in fields(cls))}."
            )
        return cls(**values)


@dataclass(frozen=True, slots=True)
class ContractClause:
    """One threshold with the measured value."""

    name: str
    comparison: Comparison
    threshold: float
    measured: Estimate
    passed: bool
    decided: bool  # False: the threshold lies inside the interval, more series would decide

    def message(self) -> str:
        """Return the outcome in words."""
        value, threshold = self.measured.value, self.threshold
        word = "keeps" if self.passed else "breaks"
        text = (
            f"{self.name} is {value:.4g} and {word} the threshold {self.comparison} {threshold:g}"
        )
        text += f" by {abs(value - threshold):.3g}"
        return text if self.decided else text + ", undecided: the threshold is inside the interval"


def compare(teacher: Explanation, student: Explanation, labels: AnyInts) -> dict[str, Estimate]:
    """Return every predictive and saliency measure that a clause can name.

    Args:
        teacher: explanation of N held-out series by the teacher.
        student: explanation of the same series under the same plan, of the teacher's class.
        labels: true classes, (N,).

    Maps of zeros are those of a teacher that takes no perturbed series: then no saliency
    measure is returned.
    """
    drop = metrics.correct(teacher.logits, labels) - metrics.correct(student.logits, labels)
    predictive = {
        "accuracy_drop": metrics.estimate_mean(drop),
        "agreement": metrics.estimate_mean(metrics.agrees(teacher.logits, student.logits)),
        "kl": metrics.estimate_mean(metrics.kl_divergence(teacher.logits, student.logits)),
    }
    if not teacher.signed.any():
        return predictive
    return predictive | {
        "saliency_pearson": metrics.estimate_mean(metrics.pearson(teacher.signed, student.signed)),
        "saliency_spearman": metrics.estimate_mean(
            metrics.spearman(teacher.signed, student.signed)
        ),
        "saliency_topk": metrics.estimate_mean(
            metrics.top_sign_agreement(teacher.signed, student.signed)
        ),
    }


def judge(contract: Contract, estimates: Mapping[str, Estimate]) -> tuple[ContractClause, ...]:
    """Return one clause for every threshold that is set.

    Raises:
        UsageError: a clause of the contract was not measured.
    """
    clauses = []
    for field in fields(contract):
        threshold = getattr(contract, field.name)
        if threshold is None:
            continue
        bound, name = field.name.split("_", 1)
        if name not in estimates:
            raise UsageError(
                f"The contract sets {field.name}, but {name} was not measured. Measure it, or set "
                f"contract.{field.name} to null."
            )
        clauses.append(_clause(name, bound == "min", float(threshold), estimates[name]))
    return tuple(clauses)


def verdict(clauses: tuple[ContractClause, ...]) -> Verdict:
    """Return "kept" if every clause passes."""
    return "kept" if all(clause.passed for clause in clauses) else "broken"


def _clause(name: str, at_least: bool, threshold: float, estimate: Estimate) -> ContractClause:
    value = estimate.value
    return ContractClause(
        name=name,
        comparison=">=" if at_least else "<=",
        threshold=threshold,
        measured=estimate,
        passed=value >= threshold if at_least else value <= threshold,
        decided=not estimate.low < threshold < estimate.high,
    )
