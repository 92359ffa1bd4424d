"""Memory discrepancy, against a slow definition of its own."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from edgedistill.distillation.features import TeacherFeatures
from edgedistill.distillation.objectives import StudentOutputs
from edgedistill.distillation.objectives.baselines.memkd import MemKD
from edgedistill.errors import ShapeError

NUMBER = 7


def slow_loss(student, teacher, first, last) -> float:
    """SmoothL1 of the relative changes, a subsequence at a time."""
    losses = []
    for n, m in np.ndindex(first.shape):
        changes = []
        for states in (student[n], teacher[n]):
            begin, end = states[:, first[n, m]], states[:, last[n, m]]
            norms = np.linalg.norm(begin) + np.linalg.norm(end)
            changes.append(np.linalg.norm(end - begin) / norms)
        gap = abs(changes[0] - changes[1])
        losses.append(0.5 * gap**2 if gap < 1 else gap - 0.5)
    return float(np.mean(losses))


@pytest.mark.parametrize("rows", [(3,), (0, 9, 4)], ids=str)
def test_it_agrees_with_a_slow_definition(world, pair, loop_outputs, rows):
    objective = MemKD(pair, subsequences=NUMBER, seed=3)
    batch = world.batch(*rows, step=5)
    outputs = loop_outputs(world.student, objective, batch)

    loss = objective(batch, outputs)

    student = outputs.features["1"].detach().numpy().astype(np.float64)
    teacher = world.teacher[:2](batch.series).detach().numpy().astype(np.float64)
    first, last = (ends.numpy() for ends in objective._draw(batch, 16))
    assert loss.item() == pytest.approx(slow_loss(student, teacher, first, last), rel=1e-4)


def test_loss_of_the_teacher_is_zero_at_any_scale(world, pair, loop_outputs):
    """Changes are relative."""
    objective, batch = MemKD(pair, subsequences=NUMBER, seed=0), world.batch(0, 5)
    outputs = loop_outputs(world.teacher, objective, batch)

    louder = StudentOutputs(outputs.logits, features={"1": outputs.features["1"] * 7})

    assert objective(batch, outputs).item() < 1e-12
    assert objective(batch, louder).item() < 1e-10
    assert objective(batch, loop_outputs(world.student, objective, batch)).item() > 1e-4


def test_subsequences_are_everywhere_and_never_empty(world, pair):
    """From the first step to the last, each at least one step long."""
    first, last = MemKD(pair, subsequences=500, seed=0)._draw(world.batch(0, 1), 16)

    assert (first < last).all()
    assert set(first.flatten().tolist()) == set(range(15))
    assert set(last.flatten().tolist()) == set(range(1, 16))


def test_draws_depend_on_seed_step_and_series(world, pair):
    def drawn(seed, step, *rows):
        return MemKD(pair, subsequences=NUMBER, seed=seed)._draw(world.batch(*rows, step=step), 16)

    first = drawn(1, 7, 0, 2)

    assert all(map(torch.equal, first, drawn(1, 7, 0, 2)))
    assert not torch.equal(first[0], drawn(1, 8, 0, 2)[0])
    assert not torch.equal(first[0], drawn(2, 7, 0, 2)[0])
    assert not torch.equal(first[0], drawn(1, 7, 3, 2)[0])
    assert not torch.equal(first[0][0], first[0][1])


def test_layer_of_zeros_has_a_finite_gradient(world, pair, loop_outputs):
    objective, batch = MemKD(pair, subsequences=NUMBER, seed=0), world.batch(0, 5)
    outputs = loop_outputs(world.student, objective, batch)
    quiet = torch.zeros_like(outputs.features["1"]).requires_grad_()

    objective(batch, StudentOutputs(outputs.logits, features={"1": quiet})).backward()

    assert torch.isfinite(quiet.grad).all()


def test_gradient_reaches_the_student_alone(world, pair, loop_outputs):
    objective, batch = MemKD(pair, subsequences=NUMBER, seed=0), world.batch(0, 1, 2)

    objective(batch, loop_outputs(world.student, objective, batch)).backward()

    assert world.student[0].weight.grad.abs().sum() > 0
    assert list(objective.parameters()) == []


def test_a_single_step_is_refused(world, pair, loop_outputs):
    short = nn.Sequential(world.teacher[0], nn.AdaptiveAvgPool1d(1), *world.teacher[3:])
    one = replace(pair, features=TeacherFeatures(short, ["1"]))
    objective, batch = MemKD(one, subsequences=NUMBER, seed=0), world.batch(0)

    with pytest.raises(ShapeError, match="'1' or the teacher's layer has one step alone"):
        objective(batch, loop_outputs(world.student, objective, batch))
