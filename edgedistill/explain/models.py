"""Who answers: a model that can be asked, or what a teacher said that is not here."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from edgedistill.errors import UsageError
from edgedistill.io.arrays import Floats
from edgedistill.pipeline.artifacts import network_of
from edgedistill.saliency.occlusion import Explanation, Predict
from edgedistill.teachers import Teacher, TorchClassifier, load

Role = Literal["teacher", "student", "model"]
LOGITS_ONLY = "is a file of logits, which cannot be asked about perturbed series."


@dataclass(frozen=True, slots=True, kw_only=True)
class ExplainedModel:
    """A model that can be asked."""

    role: Role
    name: str
    logits: Predict
    network: TorchClassifier | None = None  # where there are gradients, and a faster way


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedExplanation:
    """What a teacher said that is not here."""

    role: Role
    name: str
    explanation: Explanation  # of the one series, under the subject's plan


def named_teacher(
    spec: str, names: tuple[str, ...], series: Floats, weights: str | None, trust: bool
) -> ExplainedModel:
    """Return the teacher that a person names: as `train` takes it, or what `train` wrote.

    Args:
        spec: as `edgedistill.teachers.load` takes it, or a folder.
        names: of the classes.
        series: to try it on, (N, C, T).
        weights: safetensors, if the spec is a factory.
        trust: whether a joblib file may run the code it contains.

    Raises:
        UsageError: it cannot be asked about perturbed series, or is not trusted.
        DataError: it cannot be used, or not for these series.
    """
    if Path(spec).is_dir():
        return explained_model("teacher", network_of(Path(spec), names, series, name=spec))
    found = load(
        spec,
        class_names=names,
        train=series,
        weights=Path(weights) if weights is not None and ":" in spec else None,  # a factory's
        trust=trust,
    )
    if not found.can_explain:
        raise UsageError(f"{spec} {LOGITS_ONLY} Name the model that gave them.")
    return explained_model("teacher", found)


def explained_model(role: Role, teacher: Teacher) -> ExplainedModel:
    """Return a teacher, or a student in the same clothes, as a voice."""
    network = teacher if isinstance(teacher, TorchClassifier) else None
    return ExplainedModel(role=role, name=teacher.name, logits=teacher.logits, network=network)
