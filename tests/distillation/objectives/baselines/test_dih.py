"""Intermediate heads, against SciPy's divergence."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import softmax
from scipy.stats import entropy

from edgedistill.distillation.objectives import KD, StudentOutputs
from edgedistill.distillation.objectives.baselines.dih import DIH


@pytest.mark.parametrize("rows", [(3,), (0, 9, 4)], ids=str)
@pytest.mark.parametrize("classes", [2, 4])
def test_it_is_the_mean_divergence_from_all_heads(world, network_outputs, rng, rows, classes):
    cohort = rng.normal(0, 3, (3, 16, classes)).astype(np.float32)
    objective = DIH(torch.from_numpy(cohort), temperature=5.0)
    batch = world.batch(*rows)
    outputs = network_outputs(world.student, objective, batch)
    logits = outputs.logits[:, :classes]

    loss = objective(batch, StudentOutputs(logits))

    q = softmax(logits.detach().numpy().astype(np.float64) / 5, axis=1)
    p = softmax(cohort[:, list(rows)].astype(np.float64) / 5, axis=2)
    expected = 25 * np.mean([entropy(head, q, axis=1).mean() for head in p])
    assert loss.item() == pytest.approx(expected, rel=1e-4)


def test_a_cohort_of_one_is_plain_distillation(world, network_outputs):
    logits = torch.from_numpy(world.logits(world.series))
    cohort, alone = DIH(logits[None], temperature=4.0), KD(logits, temperature=4.0)
    batch = world.batch(0, 5, 11)
    outputs = network_outputs(world.student, alone, batch)

    assert cohort(batch, outputs).item() == pytest.approx(alone(batch, outputs).item(), rel=1e-6)
    assert cohort(batch, network_outputs(world.teacher, alone, batch)).item() < 1e-6


def test_gradient_reaches_the_student_alone(world, network_outputs):
    objective = DIH(torch.from_numpy(world.logits(world.series))[None], temperature=5.0)
    batch = world.batch(0, 1, 2)

    objective(batch, network_outputs(world.student, objective, batch)).backward()

    assert all(p.grad.abs().sum() > 0 for p in world.student.parameters())
    assert objective.state_dict() == {}
