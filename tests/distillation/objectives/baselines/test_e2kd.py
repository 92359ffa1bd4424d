"""Explanation-enhanced distillation: the cosine of maps, and what it keeps of them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from edgedistill.distillation.objectives import StudentOutputs
from edgedistill.distillation.objectives.baselines.e2kd import E2KD
from edgedistill.saliency import occlusion
from edgedistill.saliency.perturbation import default_plan

PLAN = default_plan(20)
ROWS = (0, 4, 9, 13)


@pytest.fixture
def objective(world):
    return E2KD(occlusion.explain(world.logits, world.series, PLAN), PLAN)


def test_loss_is_one_less_the_cosine_of_the_maps(world, network_outputs, objective):
    """Of the maps that occlusion makes of both, for the teacher's classes."""
    batch = world.batch(*ROWS)

    loss = objective(batch, network_outputs(world.student, objective, batch))

    series = world.series[list(ROWS)]
    teacher = occlusion.explain(world.logits, series, PLAN)
    student = occlusion.explain(
        lambda x: world.student(torch.from_numpy(x)).detach().numpy(),
        series,
        PLAN,
        targets=teacher.logits.argmax(axis=1),
    )
    cosines = [
        np.sum(a * b) / (np.sqrt(np.sum(a**2)) * np.sqrt(np.sum(b**2)))
        for a, b in zip(student.signed, teacher.signed, strict=True)
    ]
    assert loss.item() == pytest.approx(1 - np.mean(cosines), abs=1e-3)


def test_the_scale_of_a_map_is_free_and_its_sign_is_not(world, network_outputs, objective):
    batch = world.batch(*ROWS)
    outputs = network_outputs(world.teacher, objective, batch)

    for scale, expected in ((0.1, 0), (1, 0), (10, 0), (-1, 2)):
        scaled = StudentOutputs(outputs.logits, outputs.windows, outputs.changes * scale)
        assert objective(batch, scaled).item() == pytest.approx(expected, abs=1e-4)


def test_gradient_reaches_the_student_alone(world, network_outputs, objective):
    batch = world.batch(5)

    objective(batch, network_outputs(world.student, objective, batch)).backward()

    assert world.student[0].weight.grad.abs().sum() > 0
    assert all(p.grad is None for p in world.teacher.parameters())
    assert objective.state_dict() == {}
