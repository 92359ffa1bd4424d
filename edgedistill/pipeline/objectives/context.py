"""What a student is taught from: the teacher as objectives see it, and layers in pairs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from edgedistill.data import Prepared
from edgedistill.distillation.features import (
    EMBEDDING,
    Pair,
    TeacherFeatures,
    default_layers,
    embedding_size,
    layer_channels,
)
from edgedistill.errors import ConfigError
from edgedistill.io.progress import ProgressCallback
from edgedistill.pipeline.stages.teacher import open_teacher
from edgedistill.recipe.objectives import FeatureTerm
from edgedistill.recipe.recipe import Recipe
from edgedistill.saliency.occlusion import Explanation
from edgedistill.teachers import TorchClassifier
from edgedistill.teachers.outputs import TeacherOutputs


@dataclass(frozen=True, slots=True)
class ObjectiveContext:
    """A student, and all that there is to learn from."""

    recipe: Recipe
    data: Prepared
    teacher: Path  # folder of the teacher stage
    teacher_outputs: TeacherOutputs
    student: nn.Module
    cache_folder: Path  # folder for what other students can use too
    on_progress: ProgressCallback

    @property
    def explanation(self) -> Explanation:
        """Return the teacher's answers in the order of the rows that training knows."""
        train, validation = (
            self.teacher_outputs.splits["train"],
            self.teacher_outputs.splits["validation"],
        )
        return Explanation(
            np.concatenate([train.logits, validation.logits]),
            np.concatenate([train.kl, validation.kl]),
            np.concatenate([train.signed, validation.signed]),
        )

    @property
    def logits(self) -> torch.Tensor:
        """Return the teacher's logits of all rows, (M, K)."""
        return torch.from_numpy(self.explanation.logits)

    @property
    def sample(self) -> torch.Tensor:
        """Return two series, (2, C, T), to see what layers give."""
        return torch.from_numpy(np.resize(self.data.train.x, (2, *self.data.train.x.shape[1:])))

    def network(self, name: str) -> nn.Module:
        """Return the teacher as a torch module.

        Raises:
            ConfigError: it is none, so the objective `name` cannot look into it.
        """
        teacher = open_teacher(self.recipe, self.data, self.teacher)
        if not isinstance(teacher, TorchClassifier):
            raise ConfigError(
                f"The objective {name} compares what layers give, and the teacher "
                f"({teacher.name}) shows its logits alone. Use kd or tsd, or bring a torch module."
            )
        return teacher.module

    def require_maps(self, name: str) -> None:
        """Refuse a teacher that cannot be asked about perturbed series.

        Raises:
            ConfigError: it is a file of logits.
        """
        if not self.teacher_outputs.maps:
            raise ConfigError(
                f"The objective {name} asks the teacher about perturbed series, and a file of "
                "logits cannot answer. Use kd, or bring the model that gave the logits."
            )


def layer_pair(term: FeatureTerm, context: ObjectiveContext, *, hint: bool = False) -> Pair:
    """Return the layers that a term names, or the usual ones: the last, or one half way.

    Raises:
        ConfigError: the teacher has no layers to compare, or a name is wrong.
    """
    module = context.network(str(getattr(term, "name", "")))
    of_teacher, of_student = (
        layer_channels(module, context.sample),
        layer_channels(context.student, context.sample),
    )
    default = 0 if hint else 1
    named = (
        _named(term.student_layer, of_student, "student", default),
        _named(term.teacher_layer, of_teacher, "teacher", default),
    )
    return Pair(
        student=named[0],
        student_channels=of_student[named[0]],
        teacher=named[1],
        teacher_channels=of_teacher[named[1]],
        features=TeacherFeatures(module, [named[1]]),
    )


def embedding_pair(name: str, context: ObjectiveContext) -> Pair:
    """Return the vectors that both networks' last linear layers read.

    Raises:
        ConfigError: the teacher is no torch module, or a network has no linear layer.
    """
    module = context.network(name)
    return Pair(
        student=EMBEDDING,
        student_channels=embedding_size(context.student, context.sample),
        teacher=EMBEDDING,
        teacher_channels=embedding_size(module, context.sample),
        features=TeacherFeatures(module, [EMBEDDING]),
    )


def _named(name: str | None, channels: dict[str, int], role: str, default: int) -> str:
    if name is None:
        return default_layers(channels)[default]
    if name not in channels:
        raise ConfigError(
            f"The {role} has no layer {name!r} with an output over time. Choose one of: "
            f"{', '.join(channels)}."
        )
    return name
