"""Relational distillation against its definition."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from edgedistill.distillation.features import EMBEDDING
from edgedistill.distillation.objectives import StudentOutputs
from edgedistill.distillation.objectives.baselines.rkd import RKD

ROWS = (3, 11, 0, 7, 14)


def _rkd(embeddings, distance: float = 25.0, angle: float = 50.0) -> RKD:
    return RKD(embeddings, distance=distance, angle=angle)


def _embedded(x, network) -> np.ndarray:
    with torch.no_grad():
        return network[:4](x).numpy().astype(np.float64)


def _huber(gap: float) -> float:
    return 0.5 * gap**2 if abs(gap) < 1 else abs(gap) - 0.5


def _slow_distance(ours, theirs) -> float:
    number = len(ours)
    far = [
        np.array([[np.linalg.norm(e[i] - e[j]) for j in range(number)] for i in range(number)])
        for e in (ours, theirs)
    ]
    first, second = (d / d[d > 0].mean() for d in far)
    return float(np.mean([_huber(gap) for gap in (first - second).ravel()]))


def _slow_angle(ours, theirs) -> float:
    def cosine(e, at, i, j):
        a, b = e[i] - e[at], e[j] - e[at]
        size = np.linalg.norm(a) * np.linalg.norm(b)
        return a @ b / size if size else 0.0

    number = range(len(ours))
    gaps = [
        cosine(ours, at, i, j) - cosine(theirs, at, i, j)
        for at in number for i in number for j in number
    ]  # fmt: skip
    return float(np.mean([_huber(gap) for gap in gaps]))


@pytest.mark.parametrize(("distance", "angle"), [(25.0, 50.0), (1.0, 0.0), (0.0, 1.0)])
def test_loss_is_the_published_one(world, embeddings, loop_outputs, distance, angle):
    """Pair by pair and triplet by triplet, in float64."""
    objective, batch = _rkd(embeddings, distance, angle), world.batch(*ROWS)

    loss = objective(batch, loop_outputs(world.student, objective, batch))

    ours, theirs = (_embedded(batch.series, net) for net in (world.student, world.teacher))
    expected = distance * _slow_distance(ours, theirs) + angle * _slow_angle(ours, theirs)
    assert loss.item() == pytest.approx(expected, rel=1e-4)


def test_only_relations_count(world, embeddings, rng):
    """Embeddings that are turned, moved, scaled and made longer cost nothing."""
    objective, batch = _rkd(embeddings), world.batch(*ROWS)
    turn, _ = np.linalg.qr(rng.normal(size=(20, 16)))
    turned = 3 * _embedded(batch.series, world.teacher) @ turn.T + rng.normal(size=20)
    outputs = StudentOutputs(
        torch.zeros(5, 4), features={EMBEDDING: torch.from_numpy(turned).float()}
    )

    assert objective(batch, outputs).item() < 1e-5


def test_gradient_reaches_the_student_alone(world, embeddings, loop_outputs):
    objective, batch = _rkd(embeddings), world.batch(*ROWS)

    objective(batch, loop_outputs(world.student, objective, batch)).backward()

    assert world.student[0].weight.grad.abs().sum() > 0
    assert all(p.grad is None for p in world.teacher.parameters())
    assert list(objective.parameters()) == []
    assert objective.state_dict() == {}


def test_one_series_has_no_relations(world, embeddings, loop_outputs):
    objective, batch = _rkd(embeddings), world.batch(4)
    outputs = loop_outputs(world.student, objective, batch)

    loss = objective(batch, outputs)
    loss.backward()

    assert loss.item() == 0
    assert world.student[0].weight.grad.abs().sum() == 0


def test_equal_embeddings_have_an_ordinary_gradient(world, embeddings):
    """A student whose units are all dead, or series of equal embeddings."""
    objective, batch = _rkd(embeddings), world.batch(*ROWS)
    for dead in (torch.zeros(5, 4), torch.tensor([0.0, 0, 1, 1, 2])[:, None].repeat(1, 4)):
        embedding = dead.clone().requires_grad_()

        objective(
            batch, StudentOutputs(torch.zeros(5, 4), features={EMBEDDING: embedding})
        ).backward()

        assert embedding.grad.abs().max() < 1e3
