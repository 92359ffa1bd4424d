"""The distillation of whole maps: what its loss is at its extremes and in between."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import pearsonr

from edgedistill.attribution import signed_fall
from edgedistill.distillation.objectives import StudentOutputs, TSDMaps
from edgedistill.errors import ShapeError
from edgedistill.saliency import occlusion
from edgedistill.saliency.perturbation import PerturbationPlan, default_plan

PLAN = default_plan(20)
ROWS = (0, 4, 9, 13)


@pytest.fixture
def objective(world):
    """Of the teacher's maps for all series."""
    return TSDMaps(occlusion.explain(world.logits, world.series, PLAN), PLAN)


def _black_box(network):
    return lambda x: network(torch.from_numpy(x)).detach().numpy()


def test_loss_is_what_the_contract_measures(world, network_outputs, objective):
    """One less the mean correlation of the maps that occlusion makes of both."""
    batch = world.batch(*ROWS)

    loss = objective(batch, network_outputs(world.student, objective, batch))

    teacher = occlusion.explain(world.logits, world.series[list(ROWS)], PLAN)
    targets = teacher.logits.argmax(axis=1)
    student = occlusion.explain(
        _black_box(world.student), world.series[list(ROWS)], PLAN, targets=targets
    )
    pairs = zip(student.signed, teacher.signed, strict=True)
    expected = 1 - np.mean([pearsonr(*pair).statistic for pair in pairs])
    assert loss.item() == pytest.approx(expected, abs=1e-3)


def test_loss_of_the_teacher_is_zero_at_any_scale(world, network_outputs, objective):
    """It may be more or less certain, as long as it weighs the windows the same way."""
    batch = world.batch(*ROWS)
    outputs = network_outputs(world.teacher, objective, batch)

    for scale in (0.1, 1.0, 10.0):
        scaled = StudentOutputs(outputs.logits * scale, outputs.windows, outputs.changes * scale)
        assert objective(batch, scaled).item() == pytest.approx(0, abs=1e-4)


def test_loss_of_opposite_maps_is_two(world, network_outputs, objective):
    """A student whose maps are the negative of the teacher's."""
    batch = world.batch(*ROWS)
    outputs = network_outputs(world.teacher, objective, batch)

    opposite = objective(batch, StudentOutputs(-outputs.logits, outputs.windows, -outputs.changes))

    assert opposite.item() == pytest.approx(2, abs=1e-4)


def test_loss_of_constant_maps_is_one(world, network_outputs, objective):
    """A student that reacts to nothing, and a gradient that is a number."""
    batch = world.batch(*ROWS)
    outputs = network_outputs(world.teacher, objective, batch)
    deaf = torch.zeros_like(outputs.changes).requires_grad_()

    loss = objective(batch, StudentOutputs(outputs.logits, outputs.windows, deaf))
    loss.backward()

    assert loss.item() == 1
    assert torch.isfinite(deaf.grad).all()


def test_windows_are_those_of_occlusion(world, objective, copies):
    """The same windows, covered by the same baseline, in the same order."""
    inputs = []

    def recording(x):
        inputs.append(x)
        return world.logits(x)

    batch = world.batch(*ROWS)
    occlusion.explain(recording, world.series[list(ROWS)], PLAN)

    ours = copies(batch, objective.windows(batch)).flatten(0, 1)
    np.testing.assert_array_equal(ours.numpy(), np.concatenate(inputs[1:]))


def test_gradient_reaches_the_student_alone(world, network_outputs, objective):
    """The teacher's maps are constants; they travel with the objective, not with weights."""
    batch = world.batch(*ROWS)

    objective(batch, network_outputs(world.student, objective, batch)).backward()

    assert world.student[0].weight.grad.abs().sum() > 0
    assert all(p.grad is None for p in world.teacher.parameters())
    assert list(objective.parameters()) == []
    assert objective.state_dict() == {}


def test_gradient_descent_correlates_the_maps(world, network_outputs, objective):
    """Thirty steps on the term alone: the agreement that the contract measures rises."""
    batch = world.batch(*range(16))
    optimizer = torch.optim.Adam(world.student.parameters(), lr=0.02)
    losses = []

    for _ in range(30):
        optimizer.zero_grad()
        loss = objective(batch, network_outputs(world.student, objective, batch))
        loss.backward()
        optimizer.step()
        losses.append(loss.item())

    assert losses[-1] < 0.5 * losses[0]


def test_maps_of_another_plan_are_refused(world):
    """The message names both numbers of windows."""
    teacher = occlusion.explain(world.logits, world.series, default_plan(20, width=6))

    with pytest.raises(ShapeError, match="maps have 6 windows, the plan has 19"):
        TSDMaps(teacher, PLAN)


@pytest.mark.parametrize("stride", [1, 3, 9])
def test_maps_over_time_steps_agree_with_a_slow_definition(world, network_outputs, stride):
    """A step's score is the mean of the windows that cover it, and 0 where none does."""
    plan = PerturbationPlan(length=20, width=6, stride=stride)
    teacher = occlusion.explain(world.logits, world.series, plan)
    objective, batch = TSDMaps(teacher, plan, over="timesteps"), world.batch(*ROWS)
    outputs = network_outputs(world.student, objective, batch)

    loss = objective(batch, outputs)
    loss.backward()

    def spread(scores):
        covering = [(plan.starts <= t) & (t < plan.starts + 6) for t in range(20)]
        return [scores[windows].mean() if windows.any() else 0 for windows in covering]

    targets = torch.from_numpy(teacher.logits[list(ROWS)].argmax(axis=1))
    student = signed_fall(outputs.changes.detach(), targets).numpy()
    pairs = zip(student, teacher.signed[list(ROWS)], strict=True)
    expected = [pearsonr(spread(mine), spread(theirs)).statistic for mine, theirs in pairs]
    assert loss.item() == pytest.approx(1 - np.mean(expected), abs=1e-5)
    assert world.student[0].weight.grad.abs().sum() > 0
    assert loss.item() != pytest.approx(TSDMaps(teacher, plan)(batch, outputs).item(), abs=1e-4)
