"""Attention transfer, against its definition."""

from __future__ import annotations

import numpy as np
import pytest

from edgedistill.distillation.objectives import StudentOutputs
from edgedistill.distillation.objectives.baselines.attention import AttentionTransfer


def slow_attention(output: np.ndarray) -> np.ndarray:
    """How active one series' layer, (C', T'), is at each step, as a vector of length 1."""
    channels, length = output.shape
    active = [sum(output[c, t] ** 2 for c in range(channels)) / channels for t in range(length)]
    return np.array(active) / np.sqrt(sum(a**2 for a in active))


@pytest.mark.parametrize("rows", [(3,), (0, 9, 4)], ids=str)
def test_loss_is_the_mean_squared_difference_of_attention(world, pair, loop_outputs, rows):
    objective = AttentionTransfer(pair)
    batch = world.batch(*rows)
    outputs = loop_outputs(world.student, objective, batch)

    loss = objective(batch, outputs)

    student = outputs.features["1"].detach().numpy().astype(np.float64)
    teacher = world.teacher[:2](batch.series).detach().numpy().astype(np.float64)
    gaps = [
        (slow_attention(a) - slow_attention(b)) ** 2 for a, b in zip(student, teacher, strict=True)
    ]
    assert loss.item() == pytest.approx(np.mean(gaps), rel=1e-4)


def test_loss_of_the_teacher_is_zero(world, pair, loop_outputs):
    objective, batch = AttentionTransfer(pair), world.batch(0, 5)

    assert objective(batch, loop_outputs(world.teacher, objective, batch)).item() < 1e-12
    assert objective(batch, loop_outputs(world.student, objective, batch)).item() > 1e-5


def test_layer_of_zeros_has_a_finite_gradient(world, pair, loop_outputs):
    """After a ReLU a whole layer can be zero."""
    objective, batch = AttentionTransfer(pair), world.batch(0, 5)
    outputs = loop_outputs(world.student, objective, batch)
    quiet = (outputs.features["1"] * 0).detach().requires_grad_()

    objective(batch, StudentOutputs(outputs.logits, features={"1": quiet})).backward()

    assert np.isfinite(quiet.grad.numpy()).all()


def test_gradient_reaches_the_student_alone(world, pair, loop_outputs):
    objective, batch = AttentionTransfer(pair), world.batch(0, 1, 2)

    objective(batch, loop_outputs(world.student, objective, batch)).backward()

    assert world.student[0].weight.grad.abs().sum() > 0
    assert list(objective.parameters()) == []
