"""Ensembles of teachers against the definition, and the effect of their weights."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import softmax
from scipy.stats import entropy

from edgedistill.distillation.objectives import KD, StudentOutputs
from edgedistill.distillation.objectives.baselines.ensemble import Ensemble
from edgedistill.errors import ShapeError

ROWS = (3, 11, 0, 7)
SETTINGS = {"temperature": 4.0, "weighting": "correctness"}


def _ensemble(world, *teachers, **changes) -> Ensemble:
    logits = [torch.as_tensor(teacher) for teacher in teachers]
    return Ensemble(logits, torch.from_numpy(world.labels), **{**SETTINGS, **changes})


def _slow(teachers, student, labels, temperature: float, weighting: str) -> float:
    """Series by series and teacher by teacher, in float64."""
    losses = []
    for n, label in enumerate(labels):
        sure = [softmax(teacher[n].astype(np.float64)) for teacher in teachers]
        if weighting == "correctness":
            weights = np.array([p[label] for p in sure])
        else:
            weights = np.exp([-entropy(np.mean(sure, axis=0), p) for p in sure])
        weights /= weights.sum()
        soft = [softmax(teacher[n].astype(np.float64) / temperature) for teacher in teachers]
        target = sum(w * p for w, p in zip(weights, soft, strict=True))
        losses.append(entropy(target, softmax(student[n].astype(np.float64) / temperature)))
    return float(np.mean(losses)) * temperature**2


@pytest.mark.parametrize("weighting", ["correctness", "agreement"])
@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_loss_is_to_the_weighted_mean(world, network_outputs, rng, weighting, temperature):
    teachers = [world.logits(world.series) * 5, *rng.normal(size=(2, 16, 4)).astype(np.float32)]
    settings = {"temperature": temperature, "weighting": weighting}
    objective = _ensemble(world, *teachers, **settings)
    batch = world.batch(*ROWS)
    outputs = network_outputs(world.student, objective, batch)

    loss = objective(batch, outputs)

    chosen = [teacher[list(ROWS)] for teacher in teachers]
    student = outputs.logits.detach().numpy()
    expected = _slow(chosen, student, batch.labels.tolist(), **settings)
    assert loss.item() == pytest.approx(expected, rel=1e-4)
    assert objective.windows(batch) is None


@pytest.mark.parametrize("weighting", ["correctness", "agreement"])
def test_equal_teachers_give_the_loss_of_plain_distillation(world, network_outputs, weighting):
    logits = world.logits(world.series) * 5
    batch = world.batch(*ROWS)
    objective = _ensemble(world, logits, logits, weighting=weighting)
    outputs = network_outputs(world.student, objective, batch)

    plain = KD(torch.from_numpy(logits), temperature=4.0)(batch, outputs).item()

    assert objective(batch, outputs).item() == pytest.approx(plain, rel=1e-4)


def test_correct_teacher_gets_the_larger_weight(world):
    """On each series it may be another one."""
    right = 20 * np.eye(4, dtype=np.float32)[world.labels]
    wrong = np.roll(right, 1, axis=1)
    first, second = right.copy(), wrong.copy()
    first[8:], second[8:] = wrong[8:], right[8:]

    mean = _ensemble(world, first, second).teacher

    expected = torch.softmax(torch.from_numpy(right) / 4, dim=1)
    torch.testing.assert_close(mean, expected, atol=1e-6, rtol=0)


def test_outlier_teacher_gets_the_smaller_weight(world, rng):
    """Without a look at the labels: shuffled ones change nothing."""
    two = rng.normal(size=(16, 4)).astype(np.float32)
    alone = np.roll(two, 1, axis=1) * 3
    softened = [softmax(t / 4, axis=1) for t in (two, alone)]

    objective = _ensemble(world, two, two, alone, weighting="agreement")
    world.labels[:] = rng.permutation(world.labels)
    blind = _ensemble(world, two, two, alone, weighting="agreement")

    third = (2 * softened[0] + softened[1]) / 3
    far = [np.abs(t - softened[0]).sum() for t in (objective.teacher.numpy(), third)]
    assert far[0] < far[1]
    assert torch.equal(objective.teacher, blind.teacher)


def test_probabilities_of_zero_leave_a_finite_loss(world):
    """Probabilities that round to 0 leave a loss that is a number."""
    sure = 500 * np.eye(4, dtype=np.float32)[world.labels]
    for weighting in ("correctness", "agreement"):
        objective = _ensemble(world, sure, -sure, weighting=weighting, temperature=1.0)

        assert torch.isfinite(objective.teacher).all()
        assert torch.isfinite(objective(world.batch(*ROWS), StudentOutputs(torch.zeros(4, 4))))


def test_gradient_reaches_the_student_alone(world, network_outputs):
    objective = _ensemble(world, world.logits(world.series), world.logits(world.series) * 2)
    batch = world.batch(5)

    objective(batch, network_outputs(world.student, objective, batch)).backward()

    assert all(p.grad.abs().sum() > 0 for p in world.student.parameters())
    assert list(objective.parameters()) == []
    assert objective.state_dict() == {}


@pytest.mark.parametrize("other", [np.zeros((16, 3)), np.zeros((15, 4))], ids=["K", "M"])
def test_teachers_of_other_data_are_refused(world, other):
    with pytest.raises(ShapeError, match=r"shapes \[\(16, 4\), \(1[56], [34]\)\] for 16 series"):
        _ensemble(world, world.logits(world.series), other)
