"""DIST against its definition."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import softmax
from scipy.stats import pearsonr

from edgedistill.distillation.objectives import StudentOutputs
from edgedistill.distillation.objectives.baselines.dist import DIST

ROWS = (3, 11, 0, 7, 14)


def _dist(logits, **changes) -> DIST:
    settings = {"beta": 1.0, "gamma": 1.0, "temperature": 1.0, **changes}
    return DIST(torch.as_tensor(logits), **settings)


@pytest.mark.parametrize(
    ("beta", "gamma", "temperature"), [(1.0, 1.0, 1.0), (2.0, 0.5, 4.0), (0.0, 1.0, 2.0)]
)
def test_loss_is_one_less_the_correlations(world, network_outputs, beta, gamma, temperature):
    """Of each series' classes, and of each class's series, by SciPy in float64."""
    logits = world.logits(world.series) * 5
    objective = _dist(logits, beta=beta, gamma=gamma, temperature=temperature)
    batch = world.batch(*ROWS)
    outputs = network_outputs(world.student, objective, batch)

    loss = objective(batch, outputs)

    p = softmax(logits[list(ROWS)].astype(np.float64) / temperature, axis=1)
    q = softmax(outputs.logits.detach().numpy().astype(np.float64) / temperature, axis=1)
    classes = 1 - np.mean([pearsonr(p[n], q[n]).statistic for n in range(len(ROWS))])
    series = 1 - np.mean([pearsonr(p[:, k], q[:, k]).statistic for k in range(4)])
    expected = (beta * classes + gamma * series) * temperature**2
    assert loss.item() == pytest.approx(expected, rel=1e-3)
    assert objective.windows(batch) is None


def test_loss_of_the_teacher_is_zero_and_the_student_has_a_gradient(world, network_outputs):
    objective = _dist(world.logits(world.series))
    batch = world.batch(*ROWS)

    loss = objective(batch, network_outputs(world.student, objective, batch))
    loss.backward()

    assert objective(batch, network_outputs(world.teacher, objective, batch)).item() < 1e-3
    assert loss.item() > 1e-2
    assert all(p.grad.abs().sum() > 0 for p in world.student.parameters())
    assert objective.state_dict() == {}


def _gradient(objective: DIST, world, *rows: int) -> float:
    logits = torch.tensor([[0.3, -0.2], [0.1, 0.4], [-0.5, 0.2]])[: len(rows)].requires_grad_()
    objective(world.batch(*rows), StudentOutputs(logits)).backward()
    return logits.grad.abs().max().item()


def test_two_classes_have_a_gradient_from_series_alone(rng, world):
    """A row of two correlates with 1 or -1, however sure it is."""
    logits = rng.normal(size=(16, 2)).astype(np.float32)

    assert _gradient(_dist(logits, gamma=0.0), world, 0, 1, 2) < 1e-5
    assert _gradient(_dist(logits, beta=0.0), world, 0, 1, 2) > 1e-2


def test_one_series_has_no_relations_to_others(rng, world):
    """Its loss is the same for all logits, and has no gradient."""
    objective = _dist(rng.normal(size=(16, 2)).astype(np.float32), beta=0.0)

    loss = objective(world.batch(4), StudentOutputs(torch.tensor([[0.3, -0.2]])))

    assert loss.item() == pytest.approx(1)
    assert _gradient(objective, world, 4) == 0
