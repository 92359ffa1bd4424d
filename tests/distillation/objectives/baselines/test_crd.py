"""Contrastive distillation against its definition, and what its memory holds."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from edgedistill.distillation.objectives.baselines.crd import CRD

ROWS = (3, 11, 0, 7)
TRAINED = 12  # rows; the other 4 only judge
SETTINGS = {"size": 6, "negatives": 5, "temperature": 0.07, "momentum": 0.5}
BUFFERS = ("of_student", "of_teacher", "levels")


@pytest.fixture
def make(world, embeddings):
    """An objective that begins the same at every call."""

    def made(**changes) -> CRD:
        torch.manual_seed(3)
        return CRD(embeddings, world.labels[:TRAINED], **{**SETTINGS, **changes})

    return made


def _projected(layer, network, series) -> np.ndarray:
    with torch.no_grad():
        found = layer(network[:4](series)).numpy().astype(np.float64)
    return np.array([vector / np.sqrt(np.sum(vector**2)) for vector in found])


def _slow_side(anchors, same, others, level: float | None, settings) -> float:
    """One network as the anchor: every pair a question whether it belongs together."""
    temperature, number = settings["temperature"], settings["negatives"]
    near = [np.exp(a @ b / temperature) for a, b in zip(anchors, same, strict=True)]
    far = [
        [np.exp(a @ o / temperature) for o in drawn]
        for a, drawn in zip(anchors, others, strict=True)
    ]
    mean = np.mean([[n, *f] for n, f in zip(near, far, strict=True)])
    mean = mean if level is None else np.exp(level)
    losses = []
    for n, f in zip(near, far, strict=True):
        belongs = n / (n + number * mean)
        apart = [1 - x / (x + number * mean) for x in f]
        losses.append(-np.log(belongs) - np.sum(np.log(apart)))
    return float(np.mean(losses))


def _slow(world, objective: CRD, batch, settings) -> float:
    drawn = objective._draw(batch).numpy()
    student = _projected(objective.student, world.student, batch.series)
    teacher = _projected(objective.teacher, world.teacher, batch.series)
    memories = [m.numpy().astype(np.float64) for m in (objective.of_teacher, objective.of_student)]
    levels = [None if math.isnan(level) else level for level in objective.levels.tolist()]
    sides = ((student, teacher), (teacher, student))
    return sum(
        _slow_side(anchor, same, memory[drawn], level, settings)
        for (anchor, same), memory, level in zip(sides, memories, levels, strict=True)
    )


@pytest.mark.parametrize("changes", [{}, {"negatives": 1}, {"temperature": 1.0}], ids=str)
def test_loss_is_that_of_discriminating_pairs(world, make, loop_outputs, changes):
    """Pair by pair in float64: at the first step, at a later one, and in validation."""
    objective = make(**changes)

    for step, rows in enumerate((ROWS, (4,), (12, 15))):
        batch = world.batch(*rows, step=step)
        outputs = loop_outputs(world.student, objective, batch)
        expected = _slow(world, objective, batch, {**SETTINGS, **changes})

        with torch.set_grad_enabled(max(rows) < TRAINED):
            loss = objective(batch, outputs)

        assert loss.item() == pytest.approx(expected, rel=1e-4)


def test_constant_embeddings_have_the_loss_of_chance(world, make, loop_outputs):
    """At the first step the level makes up for all similarities, whatever the temperature."""
    objective, batch = make(negatives=200), world.batch(*ROWS)
    objective.of_student[:] = objective.of_teacher[:] = torch.eye(6)[0]
    outputs = loop_outputs(world.student, objective, batch)
    for layer in (objective.student, objective.teacher):
        layer.weight.data.zero_()
        layer.bias.data = torch.eye(6)[0].clone()

    loss = objective(batch, outputs).item()

    assert loss == pytest.approx(2 * (math.log(201) + 200 * math.log(201 / 200)), rel=1e-4)


def test_negatives_are_training_series_of_other_classes(world, make):
    objective = make(negatives=50)

    drawn = objective._draw(world.batch(*ROWS, 15)).numpy()

    assert drawn.max() < TRAINED
    for row, others in zip((*ROWS, 15), drawn, strict=True):
        assert set(world.labels[others]) == {0, 1, 2, 3} - {world.labels[row]} - {3}


def test_draws_depend_on_seed_and_step(world, make):
    batch = world.batch(*ROWS, step=7)
    first = make(seed=1)._draw(batch)

    assert torch.equal(first, make(seed=1)._draw(batch))
    assert not torch.equal(first, make(seed=2)._draw(batch))
    assert not torch.equal(first, make(seed=1)._draw(world.batch(*ROWS, step=8)))


def test_memory_moves_half_way_to_the_embeddings_of_training(world, make, loop_outputs):
    """Each row to its own embedding; rows that were not seen stay."""
    objective, batch = make(), world.batch(*ROWS)
    before = objective.of_student.clone()

    objective(batch, loop_outputs(world.student, objective, batch))

    seen = _projected(objective.student, world.student, batch.series)
    for vector, row in zip(seen, ROWS, strict=True):
        mixed = 0.5 * before[row].numpy() + 0.5 * vector
        expected = mixed / np.linalg.norm(mixed)
        np.testing.assert_allclose(objective.of_student[row].numpy(), expected, atol=1e-6)
    others = [row for row in range(TRAINED) if row not in ROWS]
    assert torch.equal(objective.of_student[others], before[others])


def test_validation_does_not_update_the_memory(world, make, loop_outputs):
    """Neither in the memory nor in the level, even before the first step."""
    objective, batch = make(), world.batch(12, 13, 14)
    before = {name: value.clone() for name, value in objective.state_dict().items()}

    with torch.no_grad():
        first = objective(batch, loop_outputs(world.student, objective, batch))
        again = objective(batch, loop_outputs(world.student, objective, batch))

    assert first == again
    assert torch.isfinite(first)
    for name, value in objective.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0, equal_nan=True)


def test_gradient_reaches_the_student_and_the_projections(world, make, loop_outputs):
    objective, batch = make(), world.batch(*ROWS)

    objective(batch, loop_outputs(world.student, objective, batch)).backward()

    assert world.student[0].weight.grad.abs().sum() > 0
    assert all(p.grad.abs().sum() > 0 for p in objective.parameters())
    assert {n.split(".")[0] for n, _ in objective.named_parameters()} == {"student", "teacher"}
    assert all(p.grad is None for p in world.teacher.parameters())
    assert set(BUFFERS) < set(objective.state_dict())


def test_state_dict_restores_memory_and_levels(world, make, loop_outputs):
    """An objective that takes up the state of another gives the same losses from then on."""
    objective, other = make(), make()
    for step in range(3):
        batch = world.batch(*ROWS, step=step)
        objective(batch, loop_outputs(world.student, objective, batch))
    batch = world.batch(*ROWS, step=3)
    without = other(batch, loop_outputs(world.student, other, batch)).item()

    other.load_state_dict(objective.state_dict())

    losses = [o(batch, loop_outputs(world.student, o, batch)).item() for o in (objective, other)]
    assert losses[0] == losses[1] != without


def test_gradient_descent_discriminates_series(world, make, loop_outputs):
    """Thirty steps: a student's embeddings come to fit the teacher's."""
    objective, batch = make(), world.batch(*range(TRAINED))
    learned = [*world.student.parameters(), *objective.parameters()]
    optimizer = torch.optim.Adam(learned, lr=0.02)
    losses = []

    for _ in range(30):
        optimizer.zero_grad()
        loss = objective(batch, loop_outputs(world.student, objective, batch))
        loss.backward()
        optimizer.step()
        losses.append(loss.item())

    assert losses[-1] < 0.5 * losses[0]
