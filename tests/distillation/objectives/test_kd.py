"""Knowledge distillation against its definition."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import softmax
from scipy.stats import entropy

from edgedistill.distillation.objectives import KD


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_loss_is_the_softened_divergence_times_temperature_squared(
    world, network_outputs, temperature
):
    """KL(teacher || student) a series, the mean over the batch, by SciPy in float64."""
    logits = world.logits(world.series) * 5
    objective = KD(torch.from_numpy(logits), temperature=temperature)
    batch = world.batch(3, 11, 0, 7)
    outputs = network_outputs(world.student, objective, batch)

    loss = objective(batch, outputs)

    student = outputs.logits.detach().numpy().astype(np.float64)
    p = softmax(logits[[3, 11, 0, 7]].astype(np.float64) / temperature, axis=1)
    q = softmax(student / temperature, axis=1)
    expected = entropy(p, q, axis=1).mean() * temperature**2
    assert loss.item() == pytest.approx(expected, rel=1e-4)
    assert objective.windows(batch) is None


def test_kd_of_the_teacher_itself_is_zero(world, network_outputs):
    """In any order of the rows: each is compared with its own."""
    objective = KD(torch.from_numpy(world.logits(world.series)), temperature=4.0)
    batch = world.batch(9, 2, 4)

    assert objective(batch, network_outputs(world.teacher, objective, batch)).item() < 1e-6
    assert objective(batch, network_outputs(world.student, objective, batch)).item() > 1e-3


def test_gradient_reaches_the_student_alone(world, network_outputs):
    """The teacher's logits are a constant of the loss."""
    objective = KD(torch.from_numpy(world.logits(world.series)), temperature=4.0)
    batch = world.batch(0, 1, 2)

    objective(batch, network_outputs(world.student, objective, batch)).backward()

    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in world.student.parameters())
    assert all(p.grad is None for p in world.teacher.parameters())
    assert list(objective.parameters()) == []
    assert not objective.teacher.requires_grad


def test_teacher_logits_are_not_in_the_state_dict(world):
    """It moves with the objective to a device, but belongs to the data."""
    objective = KD(torch.from_numpy(world.logits(world.series)), temperature=4.0)

    assert objective.state_dict() == {}
    assert dict(objective.named_buffers()).keys() == {"teacher"}
