"""Who answers: a model that can be asked, or what a teacher said that is not here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from edgedistill.errors import ShapeError, UsageError
from edgedistill.pipeline import networks
from edgedistill.saliency.occlusion import Explanation, Predict
from edgedistill.saliency.perturbation import Floats
from edgedistill.teachers import Teacher, TorchTeacher, load

Who = Literal["teacher", "student", "model"]
LOGITS_ALONE = "is a file of logits, which cannot be asked about perturbed series."


@dataclass(frozen=True, slots=True, kw_only=True)
class Voice:
    """A model that can be asked."""

    who: Who
    name: str
    logits: Predict
    network: TorchTeacher | None = None  # where there are gradients, and a faster way


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """What a teacher said that is not here."""

    who: Who
    name: str
    said: Explanation  # of the one series, under the subject's plan


def named_teacher(
    spec: str, names: tuple[str, ...], series: Floats, weights: str | None, trust: bool
) -> Voice:
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
        module, facts = networks.open_network(Path(spec))
        _check_shape(Path(spec), facts, series.shape[1], series.shape[2], len(names))
        return asked("teacher", TorchTeacher(module, classes=len(names), name=spec))
    found = load(
        spec,
        class_names=names,
        train=series,
        weights=Path(weights) if weights is not None and ":" in spec else None,  # a factory's
        trust=trust,
    )
    if not found.can_explain:
        raise UsageError(f"{spec} {LOGITS_ALONE} Name the model that gave them.")
    return asked("teacher", found)


def network_of(folder: Path, names: tuple[str, ...], series: Floats) -> TorchTeacher:
    """Return the network in a folder that `train` or `distill` wrote.

    Args:
        folder: of the stage.
        names: of the classes.
        series: that it will be asked about, (N, C, T).

    Raises:
        ModelError: there is none.
        ShapeError: it is made for other series.
    """
    module, facts = networks.open_network(folder)
    _check_shape(folder, facts, series.shape[1], series.shape[2], len(names))
    return TorchTeacher(module, classes=len(names), name=folder.name)


def asked(who: Who, teacher: Teacher) -> Voice:
    """Return a teacher, or a student in the same clothes, as a voice."""
    network = teacher if isinstance(teacher, TorchTeacher) else None
    return Voice(who=who, name=teacher.name, logits=teacher.logits, network=network)


def _check_shape(path: Path, facts: Mapping[str, Any], channels: int, length: int, k: int) -> None:
    """A convolutional network would answer for another length too, and mean nothing by it."""
    made = facts["channels"], facts["length"], facts["classes"]
    if made != (channels, length, k):
        raise ShapeError(
            f"The network in {path} is made for {made[0]} channels, {made[1]} steps and {made[2]} "
            f"classes; these series have {channels}, {length} and {k}. Name the data it was "
            "trained on, and repeat the settings it was trained with (--set)."
        )
