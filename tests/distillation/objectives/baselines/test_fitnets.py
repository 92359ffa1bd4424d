"""Hints, against their definition."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from edgedistill.distillation.context import TrainingData
from edgedistill.distillation.features import TeacherFeatures
from edgedistill.distillation.objectives import CrossEntropy, WeightedObjective
from edgedistill.distillation.objectives.baselines.fitnets import FitNets
from edgedistill.training.config import FitConfig
from edgedistill.training.fit import fit

pytestmark = pytest.mark.slow


def through(layer: nn.Conv1d, output: np.ndarray) -> np.ndarray:
    """A convolution of one step, in float64."""
    weight, bias = (p.detach().numpy().astype(np.float64) for p in layer.parameters())
    return np.einsum("dc,nct->ndt", weight[:, :, 0], output) + bias[:, None]


@pytest.mark.parametrize("rows", [(3,), (0, 9, 4)], ids=str)
def test_it_is_the_mean_squared_error_of_the_regressor(world, pair, loop_outputs, rows):
    objective = FitNets(pair)
    batch = world.batch(*rows)
    outputs = loop_outputs(world.student, objective, batch)

    loss = objective(batch, outputs)

    student = outputs.features["1"].detach().numpy().astype(np.float64)
    teacher = world.teacher[:2](batch.series).numpy()
    gaps = [
        (a - b) ** 2 for a, b in zip(through(objective.regressor, student), teacher, strict=True)
    ]
    assert loss.item() == pytest.approx(np.mean(gaps), rel=1e-5)


def test_loss_of_the_teacher_through_an_identity_regressor_is_zero(world, pair, loop_outputs):
    objective = FitNets(replace(pair, student_channels=16))
    with torch.no_grad():
        objective.regressor.weight.copy_(torch.eye(16)[:, :, None])
        objective.regressor.bias.zero_()
    batch = world.batch(0, 5)

    assert objective(batch, loop_outputs(world.teacher, objective, batch)).item() < 1e-12


def test_layers_of_different_lengths_are_averaged_to_the_shorter(world, pair, loop_outputs):
    """16 steps of the student, 8 of the teacher."""
    half = nn.Sequential(world.teacher[0], nn.AvgPool1d(2), *world.teacher[2:])
    objective = FitNets(replace(pair, features=TeacherFeatures(half, ["1"])))
    batch = world.batch(2, 7)
    outputs = loop_outputs(world.student, objective, batch)

    loss = objective(batch, outputs)

    student = outputs.features["1"].detach().numpy().astype(np.float64)
    student = student.reshape(2, 4, 8, 2).mean(axis=3)
    teacher = world.teacher[0](batch.series).numpy().reshape(2, 16, 8, 2).mean(axis=3)
    expected = ((through(objective.regressor, student) - teacher) ** 2).mean()
    assert loss.item() == pytest.approx(expected, rel=1e-5)


def test_gradient_reaches_student_and_regressor(world, pair, loop_outputs):
    objective = FitNets(pair)
    batch = world.batch(0, 1, 2)

    objective(batch, loop_outputs(world.student, objective, batch)).backward()

    assert world.student[0].weight.grad.abs().sum() > 0
    assert objective.regressor.weight.grad.abs().sum() > 0
    assert all(p.grad is None for p in world.teacher.parameters())


def test_teacher_is_not_in_the_state_dict(pair):
    assert set(FitNets(pair).state_dict()) == {"regressor.weight", "regressor.bias"}


@pytest.mark.slow
def test_two_processes_train_one_regressor(world, pair):
    """Each has its own copy of what is learned, and both find the same: that of one process."""
    rows = torch.arange(16)
    data = TrainingData(
        series=torch.from_numpy(world.series),
        labels=torch.from_numpy(world.labels),
        train=rows[:8],
        validation=rows[8:],
    )
    histories = []

    for devices in (1, 2):
        torch.manual_seed(0)
        terms = [
            WeightedObjective(objective=CrossEntropy()),
            WeightedObjective(objective=FitNets(pair), weight=10.0),
        ]
        config = FitConfig(epochs=4, batch_size=4 // devices, devices=devices, accelerator="cpu")
        student = copy.deepcopy(world.student)
        histories.append(fit(student, terms, data, config, seed=0))

    alone, together = ([epoch.validation_loss for epoch in history] for history in histories)
    assert together == pytest.approx(alone, rel=1e-4)
    assert alone[-1] < alone[0]
