"""A tiny teacher and student on real series."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from aeon.datasets import load_basic_motions
from torch import Tensor, nn

from edgedistill.attribution import perturb
from edgedistill.distillation.features import EMBEDDING, Pair, TeacherFeatures
from edgedistill.distillation.objectives import (
    Batch,
    Objective,
    StudentOutputs,
    ViewOutputs,
    Windows,
)
from edgedistill.training.multi_output_student import MultiOutputStudent


@dataclass(frozen=True)
class World:
    """Four series of each of four motions, and two networks for them."""

    series: np.ndarray  # (M, C, T) = (16, 2, 20)
    labels: np.ndarray  # (M,)
    teacher: nn.Module
    student: nn.Module

    def logits(self, series: np.ndarray) -> np.ndarray:
        """Return the teacher's logits as a classifier returns them."""
        with torch.no_grad():
            return self.teacher(torch.from_numpy(series)).numpy()

    def batch(self, *rows: int, step: int = 0) -> Batch:
        """Return some of the series."""
        chosen = torch.tensor(rows)
        series, labels = torch.from_numpy(self.series), torch.from_numpy(self.labels)
        return Batch(chosen, series[chosen], labels[chosen], step)


@pytest.fixture
def world() -> World:
    """The same at every test, because tests train the networks' gradients."""
    series, names = load_basic_motions(split="train")
    labels = np.unique(names, return_inverse=True)[1].astype(np.int64)
    torch.manual_seed(0)
    teacher, student = (
        nn.Sequential(
            nn.Conv1d(2, width, 5), nn.Tanh(), nn.AdaptiveAvgPool1d(1), nn.Flatten(),
            nn.Linear(width, 4),
        )
        for width in (16, 4)
    )  # fmt: skip
    chosen = np.argsort(labels, kind="stable").reshape(4, 10)[:, :4].ravel()
    part = np.ascontiguousarray(series[chosen, :2, ::5], dtype=np.float32)
    return World(part / 3, labels[chosen], teacher, student)


@pytest.fixture
def copies() -> Callable[[Batch, Windows], Tensor]:
    """The series of a batch with their windows overwritten, (N, W, C, T)."""

    def made(batch: Batch, windows: Windows) -> Tensor:
        starts = windows.starts.expand(len(batch.series), -1)
        return perturb(batch.series, starts, windows.patches)

    return made


@pytest.fixture
def network_outputs(
    copies: Callable[[Batch, Windows], Tensor],
) -> Callable[[nn.Module, Objective, Batch], StudentOutputs]:
    """A network's outputs for an objective's windows, each copy run by itself."""

    def compute(network: nn.Module, objective: Objective, batch: Batch) -> StudentOutputs:
        windows = objective.windows(batch)
        logits = network(batch.series)
        if windows is None:
            return StudentOutputs(logits)
        perturbed = network(copies(batch, windows).flatten(0, 1))
        return StudentOutputs(
            logits, windows, perturbed.reshape(len(logits), -1, 4) - logits[:, None]
        )

    return compute


@pytest.fixture
def pair(world: World) -> Pair:
    """Layers of 16 steps: 4 channels of the student, 16 of the teacher."""
    return Pair(
        student="1",
        student_channels=4,
        teacher="1",
        teacher_channels=16,
        features=TeacherFeatures(world.teacher, ["1"]),
    )


@pytest.fixture
def loop_outputs() -> Callable[[nn.Module, Objective, Batch], StudentOutputs]:
    """A network's outputs for an objective's layers and views, computed as the loop does."""

    def compute(network: nn.Module, objective: Objective, batch: Batch) -> StudentOutputs:
        views = objective.views(batch)
        logits, _, features, (other,) = MultiOutputStudent(network)(
            batch.series, [None], objective.layers, [views]
        )
        seen = None if views is None else ViewOutputs(views, *other)
        return StudentOutputs(logits, features=features, views=seen)

    return compute


@pytest.fixture
def embeddings(world: World) -> Pair:
    """The embeddings of both networks: 4 numbers of the student, 16 of the teacher."""
    return Pair(
        student=EMBEDDING,
        student_channels=4,
        teacher=EMBEDDING,
        teacher_channels=16,
        features=TeacherFeatures(world.teacher, [EMBEDDING]),
    )
