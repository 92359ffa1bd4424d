"""Similarity-preserving distillation against its definition."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from edgedistill.distillation.objectives import StudentOutputs
from edgedistill.distillation.objectives.baselines.sp import SP

ROWS = (3, 11, 0, 7)
LAYER = "1"


def _similar(layer: np.ndarray) -> np.ndarray:
    number = len(layer)
    gram = np.array([[np.sum(layer[i] * layer[j]) for j in range(number)] for i in range(number)])
    return np.array([row / np.sqrt(np.sum(row**2)) for row in gram])


def test_loss_is_the_published_one(world, pair, loop_outputs):
    """Pair by pair, in float64."""
    objective, batch = SP(pair), world.batch(*ROWS)

    loss = objective(batch, loop_outputs(world.student, objective, batch))

    with torch.no_grad():
        student, teacher = (
            _similar(network[:2](batch.series).numpy().astype(np.float64))
            for network in (world.student, world.teacher)
        )
    assert loss.item() == pytest.approx(((student - teacher) ** 2).sum() / 4**2, rel=1e-4)


def test_a_layer_at_another_scale_costs_nothing(world, pair):
    objective, batch = SP(pair), world.batch(*ROWS)
    with torch.no_grad():
        layer = world.teacher[:2](batch.series)

    loss = objective(batch, StudentOutputs(torch.zeros(4, 4), features={LAYER: 3 * layer}))

    assert loss.item() < 1e-10


def test_gradient_reaches_the_student_alone(world, pair, loop_outputs):
    objective, batch = SP(pair), world.batch(*ROWS)

    objective(batch, loop_outputs(world.student, objective, batch)).backward()

    assert world.student[0].weight.grad.abs().sum() > 0
    assert all(p.grad is None for p in world.teacher.parameters())
    assert list(objective.parameters()) == []
    assert objective.state_dict() == {}


def test_one_series_is_similar_to_itself(world, pair, loop_outputs):
    objective, batch = SP(pair), world.batch(4)

    loss = objective(batch, loop_outputs(world.student, objective, batch))

    assert loss.item() < 1e-10
