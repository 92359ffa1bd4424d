"""The context of an objective: series, teacher outputs, student, and how to open teachers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from edgedistill.data import Prepared
from edgedistill.errors import ConfigError
from edgedistill.io.arrays import Floats, Ints
from edgedistill.io.progress import ProgressCallback
from edgedistill.models.spec import ModelSpec
from edgedistill.saliency.occlusion import Explanation
from edgedistill.saliency.perturbation import PerturbationPlan
from edgedistill.teachers import Classifier
from edgedistill.teachers.outputs import UNLABELED, TeacherOutputs
from edgedistill.teachers.torch import TorchClassifier


@dataclass(frozen=True, slots=True)
class TrainingData:
    """All series that training may see, and which of them only judge."""

    series: Tensor  # (M, C, T)
    labels: Tensor  # (M,)
    train: Tensor  # rows that are learned from
    validation: Tensor  # rows that choose weights and hyper-parameters
    labeled: Tensor | None = None  # (M,), whether a label is known, not a teacher's; None: all

    @property
    def sample(self) -> Tensor:
        """Two series, (2, C, T), to run through a network for the shapes of its layers."""
        series = self.series.numpy()
        return torch.from_numpy(np.resize(series, (2, *series.shape[1:])))

    def donors(self) -> tuple[Floats, Ints]:
        """Return training series and labels, (m, C, T) and (m,), to cut windows from."""
        return self.series[self.train].numpy(), self.labels[self.train].numpy()


def training_data(data: Prepared) -> TrainingData:
    """Return training and validation series as one table of rows; test series stay out."""
    series = np.concatenate([data.train.x, data.validation.x])
    labels = np.concatenate([data.train.y, data.validation.y])
    rows = torch.arange(len(series))
    border = len(data.train.x)
    return TrainingData(
        series=torch.from_numpy(series),
        labels=torch.from_numpy(labels),
        train=rows[:border],
        validation=rows[border:],
    )


def distillation_data(data: Prepared, teacher_outputs: TeacherOutputs) -> TrainingData:
    """Return training, unlabeled and validation series as one table of rows.

    Unlabeled series are learned from too; the teacher's class stands for their label.
    """
    if data.unlabeled is None:
        return training_data(data)
    classes = teacher_outputs.splits[UNLABELED].logits.argmax(axis=1)
    series = np.concatenate([data.train.x, data.unlabeled, data.validation.x])
    labels = np.concatenate([data.train.y, classes, data.validation.y])
    rows = torch.arange(len(series))
    begin, border = len(data.train.x), len(series) - len(data.validation.x)
    return TrainingData(
        series=torch.from_numpy(series),
        labels=torch.from_numpy(labels),
        train=rows[:border],
        validation=rows[border:],
        labeled=(rows < begin) | (rows >= border),
    )


def training_explanation(teacher_outputs: TeacherOutputs) -> Explanation:
    """Return the teacher's logits and maps in the order of the rows of `distillation_data`."""
    names = [name for name in ("train", UNLABELED, "validation") if name in teacher_outputs.splits]
    splits = [teacher_outputs.splits[name] for name in names]
    return Explanation(
        np.concatenate([split.logits for split in splits]),
        np.concatenate([split.kl for split in splits]),
        np.concatenate([split.signed for split in splits]),
    )


class CacheFolder(Protocol):
    """Folders that students of one teacher share."""

    def __call__(self, name: str, key: str, fill: Callable[[Path], None]) -> Path:
        """Return the folder of this name, filled unless it was filled under the same key.

        Args:
            name: name of the folder.
            key: hash of everything that the content depends on.
            fill: writes the content into an empty folder.
        """
        ...


class OpenSource(Protocol):
    """Opens further teachers, besides the one that is distilled."""

    def __call__(self, source: str, *, trust: bool) -> Classifier:
        """Return a teacher.

        Args:
            source: file, factory or folder of a trained network.
            trust: whether a joblib file may run the code it contains.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectiveContext:
    """A student, and everything that an objective may take from its teacher."""

    student: nn.Module
    data: TrainingData
    explanation: Explanation  # the teacher's logits and maps of the M series
    has_maps: bool  # False: the teacher takes no perturbed series, and the maps are zero
    plan: PerturbationPlan  # of the maps
    teacher_key: str  # hash of the teacher's outputs, part of the key of what is cached
    teacher_spec: ModelSpec  # architecture that the recipe names for the teacher
    open_teacher: Callable[[], Classifier]
    open_source: OpenSource
    cache: CacheFolder
    seed: int
    on_progress: ProgressCallback

    @property
    def logits(self) -> Tensor:
        """The teacher's logits of all series, (M, K)."""
        return torch.from_numpy(self.explanation.logits)

    def teacher_network(self, name: str) -> nn.Module:
        """Return the teacher as a torch module.

        Args:
            name: name of the objective, for the message.

        Raises:
            ConfigError: the teacher is no torch module, so its layers cannot be read.
        """
        teacher = self.open_teacher()
        if not isinstance(teacher, TorchClassifier):
            raise ConfigError(
                f"The objective {name} compares what layers give, and the teacher "
                f"({teacher.name}) shows its logits alone. Use kd or tsd, or bring a torch module."
            )
        return teacher.module
