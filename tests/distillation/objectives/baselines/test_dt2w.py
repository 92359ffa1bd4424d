"""Alignment of layers, against a slow definition of its own."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from edgedistill_kernels import soft_dtw as kernel
from torch import nn

from edgedistill.distillation.objectives import StudentOutputs
from edgedistill.distillation.objectives.baselines.dt2w import DT2W, soft_dtw
from edgedistill.errors import ShapeError

GAMMA = 1.2


def slow_soft_dtw(first: np.ndarray, second: np.ndarray) -> float:
    """Soft-DTW of (C', S) and (C', L), by its recursion."""

    def value(i: int, j: int) -> float:
        if i < 0 or j < 0:
            return 0.0 if i == j else np.inf
        if (i, j) not in known:
            before = [value(i - 1, j - 1), value(i - 1, j), value(i, j - 1)]
            least = min(before) if i or j else 0.0
            soft = least - GAMMA * np.log(sum(np.exp((least - b) / GAMMA) for b in before))
            known[i, j] = ((first[:, i] - second[:, j]) ** 2).sum() + soft
        return known[i, j]

    known: dict[tuple[int, int], float] = {}
    return value(first.shape[1] - 1, second.shape[1] - 1)


@pytest.mark.parametrize("rows", [(3,), (0, 9, 4)], ids=str)
@pytest.mark.parametrize("steps", [1, 8, 64])
def test_it_agrees_with_a_slow_definition(world, pair, loop_outputs, rows, steps):
    """Averaged down to 8 steps and to 1; 64 leave the 16 as they are."""
    objective = DT2W(pair, gamma=GAMMA, steps=steps)
    batch = world.batch(*rows)
    outputs = loop_outputs(world.student, objective, batch)

    loss = objective(batch, outputs)

    kept = min(steps, 16)
    student, teacher = (
        output.detach().numpy().astype(np.float64).reshape(len(rows), -1, kept, 16 // kept).mean(3)
        for output in (outputs.features["1"], world.teacher[:2](batch.series))
    )
    weight, bias = (p.detach().numpy() for p in objective.projection.parameters())
    student = np.einsum("dc,nct->ndt", weight[:, :, 0], student) + bias[:, None]
    values = [slow_soft_dtw(a, b) for a, b in zip(student, teacher, strict=True)]
    assert loss.item() == pytest.approx(np.mean(values) / kept, rel=1e-4)


def test_equal_widths_need_no_projection(world, pair):
    objective = DT2W(replace(pair, student_channels=16), gamma=GAMMA, steps=64)

    assert isinstance(objective.projection, nn.Identity)
    assert list(objective.parameters()) == []


def test_shifted_output_has_a_small_loss(world, pair, loop_outputs):
    """Less than what is as far away and does not follow the same course."""
    objective = DT2W(replace(pair, student_channels=16), gamma=0.05, steps=64)
    batch = world.batch(*range(16))
    outputs = loop_outputs(world.teacher, objective, batch)
    output = outputs.features["1"]
    reverse = StudentOutputs(outputs.logits, features={"1": output.flip(2)})
    later = StudentOutputs(
        outputs.logits, features={"1": torch.cat([output[..., :1], output[..., :-1]], 2)}
    )

    itself, shifted, flipped = (objective(batch, a).item() for a in (outputs, later, reverse))

    assert itself < shifted < flipped
    assert shifted - itself < 0.2 * (flipped - itself)


def test_gradient_reaches_student_and_projection(world, pair, loop_outputs):
    objective, batch = DT2W(pair, gamma=GAMMA, steps=64), world.batch(0, 1, 2)

    objective(batch, loop_outputs(world.student, objective, batch)).backward()

    assert world.student[0].weight.grad.abs().sum() > 0
    assert all(p.grad.abs().sum() > 0 for p in objective.parameters())
    assert all(p.grad is None for p in world.teacher.parameters())


def drawn(rng, *shape, kind=torch.float64):
    return torch.from_numpy(rng.normal(size=shape)).to(kind).requires_grad_()


@pytest.mark.parametrize("lengths", [(1, 1), (5, 5), (3, 7)], ids=str)
@pytest.mark.parametrize("gamma", [0.1, 1.2])
def test_soft_dtw_has_the_gradient_of_finite_differences(rng, lengths, gamma):
    """By finite differences, for both sequences."""
    first, second = (drawn(rng, 2, 3, length) for length in lengths)

    assert torch.autograd.gradcheck(lambda a, b: soft_dtw(a, b, gamma=gamma), (first, second))


def test_soft_dtw_costs_are_squared_distances_of_steps(rng):
    first, second = drawn(rng, 2, 3, 4), drawn(rng, 2, 3, 6)

    values = soft_dtw(first, second, gamma=1.2)

    a, b = (x.detach().numpy() for x in (first, second))
    costs = np.zeros((2, 4, 6))
    for n, s, m in np.ndindex(costs.shape):
        costs[n, s, m] = ((a[n, :, s] - b[n, :, m]) ** 2).sum()
    np.testing.assert_allclose(values.detach(), kernel.soft_dtw(costs, gamma=1.2)[0], rtol=1e-9)


def test_soft_dtw_of_float32_and_without_gradient(rng):
    """As in training and validation; enough steps for the compiled loop."""
    first, second = (drawn(rng, 4, 8, 40, kind=torch.float32) for _ in range(2))

    value = soft_dtw(first, second, gamma=1.2)
    value.sum().backward()
    with torch.no_grad():
        again = soft_dtw(first, second, gamma=1.2)

    assert value.dtype == first.grad.dtype == torch.float32
    assert torch.equal(value, again)
    assert not again.requires_grad
    precise = soft_dtw(first.double(), second.double(), gamma=1.2)
    torch.testing.assert_close(value.double(), precise, rtol=1e-5, atol=1e-5)


def test_soft_dtw_refuses_other_channels(rng):
    with pytest.raises(ShapeError, match=r"\(2, 3, 4\) and \(2, 5, 4\). Project them to the same"):
        soft_dtw(drawn(rng, 2, 3, 4), drawn(rng, 2, 5, 4), gamma=1.0)
