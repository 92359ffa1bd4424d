"""The ranking of windows: its likelihood, counted out over all orders."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch

from edgedistill.attribution import signed_fall
from edgedistill.distillation.objectives import StudentOutputs
from edgedistill.distillation.objectives.baselines.ranking import Ranking
from edgedistill.saliency import occlusion
from edgedistill.saliency.perturbation import default_plan

PLAN = default_plan(20, width=8)  # of few windows, so that all orders can be counted
ROWS = (0, 4, 9)


@pytest.fixture
def teacher(world):
    return occlusion.explain(world.logits, world.series, PLAN)


def _likelihood(scores, order) -> float:
    """The probability that items are drawn in this order, each by its share of what is left."""
    strength = np.exp(scores)
    return math.prod(strength[i] / strength[list(order[k:])].sum() for k, i in enumerate(order))


def _slow(scores, first) -> float:
    """The probability of every order that begins with `first`, summed."""
    rest = [i for i in range(len(scores)) if i not in first]
    return sum(_likelihood(scores, (*first, *tail)) for tail in itertools.permutations(rest))


@pytest.mark.parametrize("top", [0.01, 0.5, 1.0])
def test_loss_is_the_likelihood_of_the_first_places(world, teacher, network_outputs, top):
    """Each series alone, in float64, over all orders of the rest."""
    windows = len(PLAN.starts)
    places = max(1, round(top * windows))
    objective, batch = Ranking(teacher, PLAN, top=top), world.batch(*ROWS)
    outputs = network_outputs(world.student, objective, batch)

    loss = objective(batch, outputs)

    targets = torch.from_numpy(teacher.logits[list(ROWS)].argmax(axis=1))
    scores = signed_fall(outputs.changes, targets).detach().numpy().astype(np.float64)
    logs = []
    for mine, theirs in zip(scores, teacher.signed[list(ROWS)], strict=True):
        first = sorted(range(windows), key=lambda i: -theirs[i])[:places]
        logs.append(math.log(_slow(mine, tuple(first))))
    assert windows == 4
    assert loss.item() == pytest.approx(-np.mean(logs) / places, rel=1e-4)


def test_a_clearer_order_costs_less_and_the_opposite_more(world, teacher, network_outputs):
    objective, batch = Ranking(teacher, PLAN, top=0.5), world.batch(*ROWS)
    outputs = network_outputs(world.teacher, objective, batch)

    losses = [
        objective(
            batch, StudentOutputs(outputs.logits, outputs.windows, outputs.changes * scale)
        ).item()
        for scale in (100, 1, 0, -1)
    ]

    assert losses == sorted(losses)
    assert losses[2] == pytest.approx((math.log(4) + math.log(3)) / 2)  # no order at all


def test_the_order_of_the_rest_is_free(world, teacher, network_outputs):
    """Two windows that are not placed may change their scores."""
    objective, batch = Ranking(teacher, PLAN, top=0.5), world.batch(0)
    outputs = network_outputs(world.teacher, objective, batch)
    order = teacher.signed[0].argsort()
    swapped = outputs.changes.clone()
    swapped[:, [order[0], order[1]]] = outputs.changes[:, [order[1], order[0]]]

    losses = [
        objective(batch, StudentOutputs(outputs.logits, outputs.windows, changes)).item()
        for changes in (outputs.changes, swapped)
    ]

    assert losses[0] == pytest.approx(losses[1], rel=1e-6)


def test_gradient_reaches_the_student_alone(world, teacher, network_outputs):
    objective, batch = Ranking(teacher, PLAN, top=0.5), world.batch(*ROWS)

    objective(batch, network_outputs(world.student, objective, batch)).backward()

    assert world.student[0].weight.grad.abs().sum() > 0
    assert all(p.grad is None for p in world.teacher.parameters())
    assert objective.state_dict() == {}
