"""Self-supervision, against a slow definition of its own."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import softmax
from scipy.stats import entropy

from edgedistill.distillation.objectives import StudentOutputs
from edgedistill.distillation.objectives.baselines.sskd import SSKD


def sskd(world, **changes) -> SSKD:
    settings = {
        "temperature": 4.0,
        "similarity_temperature": 0.5,
        "views_weight": 2.7,
        "similarity_weight": 10.0,
        "seed": 1,
        **changes,
    }
    return SSKD(world.teacher, **settings)


def slow_losses(network, teacher, series, views) -> tuple[float, float]:
    """The divergence of the logits of views, and that of similarities, a view at a time."""

    def outputs(module, x):
        with torch.no_grad():
            embedding = module[:-1](torch.from_numpy(x[None]))
            return module[-1](embedding)[0].double().numpy(), embedding[0].double().numpy()

    classes, alike = [], []
    for view in views:
        sides = []
        for module in (teacher, network):
            logits, mine = outputs(module, view)
            others = [outputs(module, x)[1] for x in series]
            cosines = [mine @ o / np.linalg.norm(mine) / np.linalg.norm(o) for o in others]
            sides.append((softmax(logits / 4), softmax(np.array(cosines) / 0.5)))
        classes.append(entropy(sides[0][0], sides[1][0]) * 16)
        alike.append(entropy(sides[0][1], sides[1][1]) * 0.25)
    return float(np.mean(classes)), float(np.mean(alike))


@pytest.mark.parametrize("rows", [(3,), (0, 9, 4)], ids=str)
def test_it_agrees_with_a_slow_definition(world, loop_outputs, rows):
    batch = world.batch(*rows, step=2)
    objective = sskd(world)
    outputs = loop_outputs(world.student, objective, batch)

    loss = objective(batch, outputs)

    views = objective.views(batch).flatten(0, 1).numpy()
    classes, alike = slow_losses(world.student, world.teacher, batch.series.numpy(), views)
    assert len(views) == 4 * len(rows)
    assert loss.item() == pytest.approx(2.7 * classes + 10 * alike, rel=1e-3)


def test_each_part_has_its_weight(world, loop_outputs):
    batch = world.batch(0, 9, 4)
    outputs = loop_outputs(world.student, sskd(world), batch)

    both, half, none = (
        sskd(world, views_weight=v, similarity_weight=s)(batch, outputs).item()
        for v, s in ((2.0, 3.0), (2.0, 1e-9), (1e-9, 3.0))
    )

    assert both == pytest.approx(half + none, rel=1e-5)
    assert min(half, none) > 1e-6


def test_loss_of_the_teacher_is_zero(world, loop_outputs):
    """It runs on the same views as the student."""
    objective, batch = sskd(world), world.batch(0, 5, 10)

    assert objective(batch, loop_outputs(world.teacher, objective, batch)).item() < 1e-5
    assert objective(batch, loop_outputs(world.student, objective, batch)).item() > 1e-2


def test_views_depend_on_seed_step_and_batch(world):
    batch = world.batch(0, 1, step=7)
    first = sskd(world).views(batch)

    assert torch.equal(first, sskd(world).views(batch))
    assert not torch.equal(first, sskd(world).views(world.batch(0, 1, step=8)))
    assert not torch.equal(first, sskd(world, seed=2).views(batch))
    assert not torch.equal(first[:, 1], sskd(world).views(world.batch(2, 1, step=7))[:, 1])


def test_gradient_reaches_the_student_alone(world, loop_outputs):
    """Through views and through the series themselves."""
    objective, batch = sskd(world), world.batch(0, 1, 2)
    outputs = loop_outputs(world.student, objective, batch)
    embedding, views = outputs.features["embedding"], outputs.views.features["embedding"]
    for part in (embedding, views, outputs.views.logits):
        part.retain_grad()

    objective(batch, outputs).backward()

    assert all(part.grad.abs().sum() > 0 for part in (embedding, views, outputs.views.logits))
    assert world.student[0].weight.grad.abs().sum() > 0
    assert all(p.grad is None for p in world.teacher.parameters())
    assert list(objective.parameters()) == []


def test_outputs_without_views_are_refused(world, loop_outputs):
    objective, batch = sskd(world), world.batch(0)
    outputs = loop_outputs(world.student, objective, batch)

    with pytest.raises(TypeError, match="needs the answers to its views"):
        objective(batch, StudentOutputs(outputs.logits, features=outputs.features))
