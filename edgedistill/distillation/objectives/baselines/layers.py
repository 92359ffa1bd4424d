"""Objectives that compare a layer of the student with one of the teacher."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from edgedistill.distillation.context import ObjectiveContext
from edgedistill.distillation.features import (
    EMBEDDING,
    Pair,
    TeacherFeatures,
    default_layers,
    embedding_size,
)
from edgedistill.distillation.objectives.objective import Batch, Objective, StudentOutputs
from edgedistill.errors import ConfigError


class LayerObjective(Objective):
    """A loss of the outputs of one layer of each network for the same series."""

    def __init__(self, pair: Pair) -> None:
        """Keep the teacher's layer and request the student's."""
        super().__init__()
        self._pair = pair
        self.layers = (pair.student,)

    def layer_outputs(self, batch: Batch, outputs: StudentOutputs) -> tuple[Tensor, Tensor]:
        """Return the outputs of the student's and of the teacher's layer.

        Returns:
            (N, C', T') and (N, C'', T'), the longer averaged down to the shorter; of the
            embedding (N, F) and (N, F').
        """
        student = outputs.features[self._pair.student]
        teacher = self._pair.features(batch.series)[self._pair.teacher].to(student.dtype)
        if student.ndim == 2:
            return student, teacher
        length = min(student.shape[2], teacher.shape[2])
        return (
            functional.adaptive_avg_pool1d(student, length),
            functional.adaptive_avg_pool1d(teacher, length),
        )


def embedding_pair(name: str, context: ObjectiveContext) -> Pair:
    """Return the inputs of the last linear layer of both networks as a pair.

    Args:
        name: name of the objective, for the message.
        context: holds the student, and opens the teacher.

    Raises:
        ConfigError: the teacher is no torch module, or a network has no linear layer.
    """
    teacher = context.teacher_network(name)
    return Pair(
        student=EMBEDDING,
        student_channels=embedding_size(context.student, context.data.sample),
        teacher=EMBEDDING,
        teacher_channels=embedding_size(teacher, context.data.sample),
        features=TeacherFeatures(teacher, [EMBEDDING]),
    )


def choose_layer(name: str | None, channels: dict[str, int], role: str, default: int) -> str:
    if name is None:
        return default_layers(channels)[default]
    if name not in channels:
        raise ConfigError(
            f"The {role} has no layer {name!r} with an output over time. Choose one of: "
            f"{', '.join(channels)}."
        )
    return name
