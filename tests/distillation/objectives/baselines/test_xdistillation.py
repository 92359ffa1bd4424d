"""Predicting the teacher's map, against a slow definition of its own."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from edgedistill.distillation.features import (
    EMBEDDING,
    EXPLANATION,
    layer_channels,
    record_features,
)
from edgedistill.distillation.objectives import Batch, StudentOutputs, Windows
from edgedistill.distillation.objectives.baselines.xdistillation import (
    XDistillation,
    normalized_map,
)
from edgedistill.errors import ConfigError, ShapeError
from edgedistill.models import ModelSpec, SelfExplainingNetwork, build
from edgedistill.saliency import occlusion
from edgedistill.saliency.occlusion import Explanation
from edgedistill.saliency.perturbation import default_plan
from edgedistill.training.multi_output_student import MultiOutputStudent

PLAN = default_plan(20)


@pytest.fixture
def student() -> SelfExplainingNetwork:
    torch.manual_seed(0)
    spec = ModelSpec(family="fcn", width=4, explained=True)
    model = build(spec, channels=2, classes=4, length=20)
    assert isinstance(model, SelfExplainingNetwork)
    return model


@pytest.fixture
def target(world) -> Explanation:
    return occlusion.explain(world.logits, world.series, PLAN)


def compute(network: nn.Module, objective: XDistillation, batch: Batch) -> StudentOutputs:
    """Return the outputs of a network, computed as the training loop does."""
    logits, _, features, _ = MultiOutputStudent(network)(batch.series, [None], objective.layers)
    return StudentOutputs(logits, features=features)


def slow_maps(signed: np.ndarray) -> np.ndarray:
    """The mean of the windows over each step, a step at a time, over the root mean square."""
    maps = np.zeros((len(signed), 20))
    for n, row in enumerate(signed):
        for t in range(20):
            over = [
                score for s, score in zip(PLAN.starts, row, strict=True) if s <= t < s + PLAN.width
            ]
            maps[n, t] = np.mean(over)
        maps[n] /= np.sqrt(np.mean(maps[n] ** 2))
    return maps


@pytest.mark.parametrize("rows", [(3,), (0, 9, 4)], ids=str)
def test_it_agrees_with_a_slow_definition(world, student, target, rows):
    batch, objective = world.batch(*rows), XDistillation(target, PLAN)
    student.eval()

    loss = objective(batch, compute(student, objective, batch))

    predicted = student.explain(batch.series)[1].detach().double().numpy()
    expected = np.mean((predicted - slow_maps(target.signed[list(rows)])) ** 2)
    assert loss.item() == pytest.approx(expected, rel=1e-4)


def test_loss_of_a_perfect_prediction_is_zero_and_of_zeros_one(world, target):
    """Whatever the scale of the teacher's logits."""
    batch, logits = world.batch(0, 5, 9), torch.zeros(3, 4)
    for scale in (1.0, 1e-4, 1e4):
        scaled = replace(target, signed=(target.signed * scale).astype(np.float32))
        objective = XDistillation(scaled, PLAN)
        right = objective.teacher_map[batch.rows]

        perfect = objective(batch, StudentOutputs(logits, features={EXPLANATION: right}))
        nothing = objective(
            batch, StudentOutputs(logits, features={EXPLANATION: torch.zeros(3, 20)})
        )

        assert perfect.item() == 0
        assert nothing.item() == pytest.approx(1, rel=1e-5)


def test_the_sign_is_kept_and_a_map_of_zeros_stays_one(target):
    signed = target.signed.copy()
    signed[0] = 0

    maps = normalized_map(replace(target, signed=signed), PLAN).numpy()
    turned = normalized_map(replace(target, signed=-signed), PLAN).numpy()

    assert not maps[0].any()
    assert (maps > 0).any()
    assert (maps < 0).any()
    np.testing.assert_array_equal(turned, -maps)


def test_two_classes_and_no_gradient(world):
    """As in validation."""
    torch.manual_seed(0)
    spec = ModelSpec(family="lstm", width=3, depth=1, explained=True)
    model = build(spec, channels=2, classes=2, length=20).eval()
    loop_outputs = occlusion.explain(lambda x: world.logits(x)[:, :2], world.series, PLAN)
    objective, batch = XDistillation(loop_outputs, PLAN), world.batch(7)

    with torch.no_grad():
        loss = objective(batch, compute(model, objective, batch))

    assert np.isfinite(loss.item())


def test_gradient_reaches_all_that_predicts_the_map(world, student, target):
    objective, batch = XDistillation(target, PLAN), world.batch(0, 1, 2)

    objective(batch, compute(student, objective, batch)).backward()

    reached = {name.split(".")[0] for name, p in student.named_parameters() if p.grad is not None}
    assert reached == {"encoder", "mixed", "refined"}
    assert list(objective.parameters()) == []
    assert objective.state_dict() == {}


def test_training_loop_records_the_map_of_clean_series_alone(world, student):
    """Where changes are followed, and where whole copies run through the network."""
    batch = world.batch(0, 4, 9)
    student.eval()
    patches = torch.zeros(3, 5, 2, 3)
    windows = Windows(torch.tensor([[0, 4, 8, 12, 17]]), patches)
    expected = student.explain(batch.series)[1]

    for copies in ([None], [windows]):
        _, _, features, _ = MultiOutputStudent(student)(
            batch.series, copies, [EXPLANATION, EMBEDDING]
        )

        torch.testing.assert_close(features[EXPLANATION], expected)
        assert features[EMBEDDING].shape == (3, 4 + 8)
    with record_features(student, [EXPLANATION]) as found:
        student(batch.series)
        student(batch.series + 1)
    torch.testing.assert_close(found[EXPLANATION], expected)


def test_other_objectives_see_the_networks_layers_alone(world, student):
    plain = build(ModelSpec(family="fcn", width=4), channels=2, classes=4, length=20)
    series = torch.from_numpy(world.series[:2])

    assert layer_channels(student, series) == {
        f"network.{name}": channels for name, channels in layer_channels(plain, series).items()
    }


def test_student_without_a_predicted_map_is_refused(world, target):
    objective, batch = XDistillation(target, PLAN), world.batch(0)

    with pytest.raises(ConfigError, match=r"Sequential predicts no explanation.*explained=True"):
        compute(nn.Sequential(*world.student), objective, batch)


def test_maps_of_another_plan_are_refused(target):
    with pytest.raises(ShapeError, match=r"maps have \d+ windows, the plan has"):
        XDistillation(target, default_plan(20, width=8))
