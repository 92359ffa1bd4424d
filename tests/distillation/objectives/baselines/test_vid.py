"""Variational information distillation, against SciPy's normal distribution."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import norm

from edgedistill.distillation.objectives import StudentOutputs
from edgedistill.distillation.objectives.baselines.vid import VID


def slow_mean(objective: VID, output: np.ndarray) -> np.ndarray:
    """The mean that the student's layer, (N, C', T'), predicts, in float64."""
    for layer in objective.mean:
        if not list(layer.parameters()):
            output = np.maximum(output, 0)
            continue
        weight, bias = (p.detach().numpy().astype(np.float64) for p in layer.parameters())
        output = np.einsum("dc,nct->ndt", weight[:, :, 0], output) + bias[:, None]
    return output


@pytest.mark.parametrize("rows", [(3,), (0, 9, 4)], ids=str)
def test_it_is_the_negative_log_likelihood_less_a_constant(world, pair, loop_outputs, rows):
    """Each channel with a variance of its own."""
    objective = VID(pair)
    with torch.no_grad():
        objective.raw_variance += torch.linspace(-6, 2, 16)
    batch = world.batch(*rows)
    outputs = loop_outputs(world.student, objective, batch)

    loss = objective(batch, outputs)

    student = outputs.features["1"].detach().numpy().astype(np.float64)
    teacher = world.teacher[:2](batch.series).detach().numpy().astype(np.float64)
    raw = objective.raw_variance.detach().numpy().astype(np.float64)
    deviation = np.sqrt(np.log1p(np.exp(raw)) + 1e-5)[:, None]
    likelihood = norm.logpdf(teacher, slow_mean(objective, student), deviation)
    expected = -likelihood.mean() - 0.5 * np.log(2 * np.pi)
    assert loss.item() == pytest.approx(expected, rel=1e-4)


def test_the_first_variance_is_large(pair):
    """So that a poor mean costs little at first."""
    variance = torch.nn.functional.softplus(VID(pair).raw_variance) + 1e-5

    torch.testing.assert_close(variance, torch.full((16,), 5.0))


def test_gradient_reaches_student_mean_and_variance(world, pair, loop_outputs):
    objective, batch = VID(pair), world.batch(0, 1, 2)

    objective(batch, loop_outputs(world.student, objective, batch)).backward()

    assert world.student[0].weight.grad.abs().sum() > 0
    assert all(p.grad.abs().sum() > 0 for p in objective.parameters())
    assert all(p.grad is None for p in world.teacher.parameters())


def test_training_raises_the_likelihood(world, pair, loop_outputs):
    """Of the teacher's layer, by the mean and by smaller variances."""
    objective, batch = VID(pair), world.batch(*range(16))
    outputs = loop_outputs(world.student, objective, batch)
    outputs = StudentOutputs(outputs.logits, features={"1": outputs.features["1"].detach()})
    optimizer = torch.optim.Adam(objective.parameters(), lr=0.05)
    first = objective(batch, outputs).item()

    for _ in range(60):
        optimizer.zero_grad()
        objective(batch, outputs).backward()
        optimizer.step()

    assert objective(batch, outputs).item() < first - 0.3
    assert (torch.nn.functional.softplus(objective.raw_variance) < 4).all()
