"""Decoupled distillation against its definition."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import softmax

from edgedistill.distillation.objectives import KD, StudentOutputs
from edgedistill.distillation.objectives.baselines.dkd import DKD

ROWS = (3, 11, 0, 7)
USUAL = {"alpha": 1.0, "beta": 8.0, "temperature": 4.0, "warmup": 0}


def _dkd(logits, **changes) -> DKD:
    return DKD(torch.from_numpy(logits), **{**USUAL, **changes})


def _slow(teacher, student, labels, *, alpha, beta, temperature) -> float:
    """The two divergences, class by class, in float64."""
    losses = []
    for t, s, label in zip(teacher, student, labels, strict=True):
        p, q = softmax(t / temperature), softmax(s / temperature)
        target = p[label] * np.log(p[label] / q[label])
        target += (1 - p[label]) * np.log((1 - p[label]) / (1 - q[label]))
        rest = 0.0
        for k in range(len(p)):
            if k != label:
                inside, ours = p[k] / (1 - p[label]), q[k] / (1 - q[label])
                rest += inside * np.log(inside / ours)
        losses.append(alpha * target + beta * rest)
    return float(np.mean(losses)) * temperature**2


@pytest.mark.parametrize(
    "settings",
    [
        {"alpha": 1.0, "beta": 8.0, "temperature": 4.0},
        {"alpha": 2.0, "beta": 0.0, "temperature": 1.0},
        {"alpha": 0.0, "beta": 1.0, "temperature": 2.0},
    ],
    ids=str,
)
def test_loss_is_the_published_one(world, network_outputs, settings):
    logits = world.logits(world.series) * 5
    batch = world.batch(*ROWS)
    objective = _dkd(logits, **settings)
    outputs = network_outputs(world.student, objective, batch)

    loss = objective(batch, outputs)

    student = outputs.logits.detach().numpy().astype(np.float64)
    teacher = logits[list(ROWS)].astype(np.float64)
    expected = _slow(teacher, student, batch.labels.tolist(), **settings)
    assert loss.item() == pytest.approx(expected, rel=1e-4)


def test_equal_weights_are_not_plain_distillation(world, network_outputs):
    """KD weighs the rest by 1 - p(target), so with a sure teacher it hardly counts."""
    logits = world.logits(world.series) * 5
    batch = world.batch(*ROWS)
    objective = _dkd(logits, beta=1.0)
    outputs = network_outputs(world.student, objective, batch)

    hinton = KD(torch.from_numpy(logits), temperature=4.0)(batch, outputs)

    assert objective(batch, outputs).item() > 1.01 * hinton.item()


def test_two_classes_have_the_target_term_alone(rng, world):
    """The rest is one class: beta changes nothing, and the loss is Hinton's."""
    logits = rng.normal(size=(16, 2)).astype(np.float32)
    batch = world.batch(0, 1, 2)
    batch.labels.clamp_(max=1)
    outputs = StudentOutputs(torch.from_numpy(rng.normal(size=(3, 2)).astype(np.float32)))

    losses = [_dkd(logits, beta=beta)(batch, outputs).item() for beta in (0.0, 1.0, 8.0)]

    hinton = KD(torch.from_numpy(logits), temperature=4.0)(batch, outputs).item()
    assert losses == [losses[0]] * 3
    assert losses[0] == pytest.approx(hinton, rel=1e-4)


@pytest.mark.parametrize("rows", [ROWS, (5,)], ids=str)
def test_loss_of_the_teacher_is_zero_and_the_student_has_a_gradient(world, network_outputs, rows):
    objective = _dkd(world.logits(world.series))
    batch = world.batch(*rows)

    loss = objective(batch, network_outputs(world.student, objective, batch))
    loss.backward()

    assert objective(batch, network_outputs(world.teacher, objective, batch)).item() < 1e-5
    assert loss.item() > 1e-3
    assert all(p.grad.abs().sum() > 0 for p in world.student.parameters())
    assert objective.state_dict() == {}


def test_saturated_logits_have_a_finite_loss(world):
    """Where p(target) rounds to 1, the rest is still a distribution."""
    logits = torch.tensor([[300.0, 0.0, -100.0, -200.0]]).requires_grad_()
    batch = world.batch(0)
    batch.labels.zero_()

    loss = _dkd(np.float32([[0.0, 500.0, 100.0, 0.0]]), temperature=1.0)(
        batch, StudentOutputs(logits)
    )
    loss.backward()

    assert torch.isfinite(loss)
    assert torch.isfinite(logits.grad).all()


def test_the_loss_warms_up(world, network_outputs):
    """Linearly with the optimizer's steps; validation, at a step of its own, sees all of it."""
    logits = world.logits(world.series)
    outputs = network_outputs(world.student, _dkd(logits), world.batch(*ROWS))
    full = _dkd(logits)(world.batch(*ROWS), outputs).item()

    shares = [
        _dkd(logits, warmup=4)(world.batch(*ROWS, step=step), outputs).item() / full
        for step in (0, 1, 2, 3, 4, 2**31)
    ]

    assert shares == pytest.approx([0.25, 0.5, 0.75, 1, 1, 1])
