"""The models of an explanation: a classifier at hand, or a recorded explanation of one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from edgedistill.errors import UsageError
from edgedistill.io.arrays import Floats
from edgedistill.pipeline.artifacts import network_of
from edgedistill.saliency.classifier import Classifier
from edgedistill.saliency.occlusion import Explanation
from edgedistill.teachers import TorchClassifier, load

Role = Literal["teacher", "student", "model"]
LOGITS_ONLY = "is a file of logits, which cannot be asked about perturbed series."


@dataclass(frozen=True, slots=True, kw_only=True)
class ExplainedModel:
    """A classifier in its role."""

    role: Role
    name: str
    classifier: Classifier

    @property
    def network(self) -> TorchClassifier | None:
        """The classifier if it is a torch module, which has gradients."""
        return self.classifier if isinstance(self.classifier, TorchClassifier) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedExplanation:
    """The recorded explanation of a teacher that is not at hand."""

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


def explained_model(role: Role, classifier: Classifier) -> ExplainedModel:
    """Return a classifier in a role, under its own name."""
    return ExplainedModel(role=role, name=classifier.name, classifier=classifier)
