"""Objectives that read the teacher's layers, by recipe, from the files of a teacher on."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from edgedistill.distillation.context import ObjectiveContext
from edgedistill.distillation.objectives import Objective, WeightedObjective
from edgedistill.distillation.objectives.baselines.crd import CRD
from edgedistill.errors import ConfigError
from edgedistill.recipe import recipe as config
from edgedistill.training.config import RunOutputs
from edgedistill.training.fit import fit

pytestmark = pytest.mark.slow

NAMES = ("fitnets", "at", "vid", "dt2w", "memkd", "sskd", "dih", "rkd", "sp", "crd")
TRAINED = {"fitnets", "vid", "dt2w", "crd"}  # those with parameters of their own


@pytest.mark.parametrize("family", ["lstm", "resnet", "inception", "lite"])
@pytest.mark.parametrize("name", NAMES)
def test_any_family_can_be_the_student(recipe, context_of, build, name, family):
    """Layers of another kind, fewer or more channels."""
    changes = [f"student.family={family}", "student.width=3", "student.depth=2"]
    context = context_of(config.parse(config.dump(recipe), changes))
    before = next(context.student.parameters()).clone()
    term = WeightedObjective(objective=build(f"name: {name}", context))
    settings = replace(recipe.student.training, epochs=1, select="last")

    history = fit(context.student, [term], context.data, settings, seed=0)

    assert np.isfinite([history[0].train_loss, history[0].validation_loss]).all()
    assert (before != next(context.student.parameters())).any()


@pytest.mark.parametrize("name", NAMES)
def test_batches_of_one_and_mixed_precision(recipe, context, build, name):
    known = context.data
    few = replace(known, train=known.train[:3], validation=known.validation[:2])
    if name == "crd":  # draws negatives among training series of other classes
        few = replace(few, train=torch.cat([known.train[:2], known.train[-1:]]))
    settings = replace(recipe.student.training, epochs=1, batch_size=1, precision="bf16-mixed")
    term = WeightedObjective(objective=build(f"name: {name}", context))

    history = fit(context.student, [term], few, settings, seed=0)

    assert np.isfinite([history[0].train_loss, history[0].validation_loss]).all()


@pytest.mark.parametrize("name", NAMES)
def test_training_changes_the_student_and_the_objectives_own_parameters(
    recipe, context, build, name
):
    """By its gradient alone: there is no other term, and no weight decay."""
    objective = build(f"name: {name}", context)
    own = list(objective.parameters())
    trained = [next(context.student.parameters()), *own]
    before = [p.clone() for p in trained]
    settings = replace(recipe.student.training, epochs=1, weight_decay=0.0, select="last")

    fit(context.student, [WeightedObjective(objective=objective)], context.data, settings, seed=0)

    assert bool(own) == (name in TRAINED)
    assert all((a != b).any() for a, b in zip(before, trained, strict=True))


def test_seed_decides_the_initial_parameters(context, build):
    """Whatever else was drawn before."""
    first = build("name: fitnets", context)
    torch.rand(7)
    again = build("name: fitnets", context)
    other = build("name: fitnets", replace(context, seed=9))

    weights = [objective.regressor.weight for objective in (first, again, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ("name: rkd, distance: 2, angle: 3", {"_distance": 2, "_angle": 3}),
        (
            "name: crd, size: 7, negatives: 9, temperature: 0.5, momentum: 0.1",
            {"_negatives": 9, "_temperature": 0.5, "_momentum": 0.1, "_seed": 5},
        ),
        ("name: dt2w, gamma: 2, steps: 5", {"_gamma": 2, "_steps": 5}),
        ("name: memkd, subsequences: 3", {"_number": 3, "_seed": 5}),
    ],
)
def test_settings_reach_the_objective(context, build, settings, expected):
    objective = build(settings, replace(context, seed=5))

    assert {name: getattr(objective, name) for name in expected} == expected
    if isinstance(objective, CRD):
        assert objective.of_student.shape == (len(context.data.train), 7)


class Killed(Exception):
    """Stands for whatever ends a run from outside."""


@pytest.mark.parametrize("name", ["vid", "memkd", "sskd", "crd, negatives: 8"])
def test_resumed_run_ends_with_the_same_weights(recipe, context_of, build, tmp_path, name):
    """Bit for bit: trained parameters, draws, and a memory that fills from a late start on."""
    settings = replace(recipe.student.training, epochs=4)

    def run(folder: str, **options) -> tuple[nn.Module, Objective]:
        context = context_of(recipe)
        objective = build(f"name: {name}", context)
        terms = [WeightedObjective(objective=objective, start=0.25)]
        terms.append(WeightedObjective(objective=build("name: rkd", context)))
        outputs = RunOutputs(checkpoint=tmp_path / folder)
        fit(context.student, terms, context.data, settings, seed=0, outputs=outputs, **options)
        return context.student, objective

    def stop(epoch) -> None:
        if epoch.epoch == 3:
            raise Killed

    whole = run("whole")
    with pytest.raises(Killed):
        run("killed", on_epoch=stop)
    assert (tmp_path / "killed").exists()
    resumed = run("killed")

    for one, two in zip(whole, resumed, strict=True):
        pairs = zip(one.state_dict().values(), two.state_dict().values(), strict=True)
        assert all(torch.equal(a, b) for a, b in pairs)
    if isinstance(whole[1], CRD):
        assert torch.isfinite(whole[1].levels).all()


def test_missing_layer_is_refused(context, build):
    with pytest.raises(ConfigError, match=r"teacher has no layer 'blocks.77'.*blocks\.1"):
        build("name: at, teacher_layer: blocks.77", context)


class Bare(nn.Module):
    """A network of one convolution, without a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(1, 2, 3)

    def forward(self, x):
        return self.conv(x).mean(dim=2)


class Flat(nn.Module):
    """A network without a layer over time."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(24, 2)

    def forward(self, x):
        return self.head(x[:, 0])


@pytest.mark.parametrize("whose", ["teacher", "student"])
def test_sskd_refuses_a_network_without_embeddings(context, build, monkeypatch, whose):
    if whose == "teacher":
        monkeypatch.setattr(ObjectiveContext, "teacher_network", lambda *_: Bare())
    else:
        context = replace(context, student=Bare())

    with pytest.raises(ConfigError, match="Bare has no linear layer"):
        build("name: sskd", context)


def test_dih_refuses_a_network_without_layers_over_time(context, build, monkeypatch):
    monkeypatch.setattr(ObjectiveContext, "teacher_network", lambda *_: Flat())

    with pytest.raises(ConfigError, match="no layer with an output over time"):
        build("name: dih", context)


def test_dih_distills_from_its_heads_and_the_teacher(context, build):
    objective = build("name: dih, heads: 1", context)

    assert objective.cohort.shape == (2, len(context.logits), 2)
    assert torch.equal(objective.cohort[1], context.logits)
