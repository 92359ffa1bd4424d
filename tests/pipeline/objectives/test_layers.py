"""Objectives that look into the teacher, by recipe, from the files of a teacher on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from edgedistill.distillation.context import ObjectiveContext
from edgedistill.distillation.objectives import Objective, WeightedObjective, build_objective
from edgedistill.distillation.objectives.baselines.attention import AttentionConfig
from edgedistill.distillation.objectives.baselines.dih import DIHConfig
from edgedistill.distillation.objectives.baselines.sskd import SSKDConfig
from edgedistill.errors import ConfigError
from edgedistill.io.files import read_json
from edgedistill.pipeline import networks
from edgedistill.pipeline.objective_context import objective_context
from edgedistill.pipeline.run_folder import TRIALS
from edgedistill.pipeline.stages.student import make_student
from edgedistill.pipeline.stages.teacher import open_teacher_outputs, training_data
from edgedistill.recipe import recipe as config
from edgedistill.recipe.recipe import Recipe
from edgedistill.training.config import RunOutputs
from edgedistill.training.fit import fit

NAMES = ("fitnets", "at", "vid", "dt2w", "memkd", "sskd", "dih")
LEARNING = {"fitnets", "vid", "dt2w"}  # those with parameters of their own
TSD = "{name: tsd, windows: 4, width: 6, bank: 4}"


@pytest.fixture
def lesson(recipe, data, stages, tmp_path) -> ObjectiveContext:
    """What a student of the tiny run is taught from."""
    return lesson_of(recipe, data, stages, tmp_path)


def lesson_of(recipe: Recipe, data, stages: Path, home: Path) -> ObjectiveContext:
    knowledge, _ = open_teacher_outputs(stages / "teacher")
    student = networks.build_untrained(recipe.student, data, seed=recipe.seed)
    return objective_context(recipe, data, stages / "teacher", knowledge, student, home)


def made(name: str, lesson: ObjectiveContext) -> Objective:
    """Return an objective with the settings that a recipe leaves out."""
    parsed = config.parse("", [f"student.objectives=[{{name: {name}}}]"])
    return build_objective(parsed.student.objectives[0], lesson)


@pytest.mark.parametrize("name", NAMES)
def test_it_distills_by_recipe(recipe, data, stages, tmp_path, name):
    """Two epochs beside cross-entropy and TSD, by its name alone."""
    term = f"{{name: {name}}}"
    settings = [f"student.objectives=[{{name: cross_entropy}}, {term}, {TSD}]"]
    changed = config.parse(config.dump(recipe), settings)
    out, work = tmp_path / "out", tmp_path / "work"
    out.mkdir()
    work.mkdir()

    make_student(changed, data, stages / "teacher", out, work)

    weights = read_json(out / TRIALS)["trials"][0]["weights"]
    usual = {"fitnets": 100, "at": 1000}
    assert weights == {"cross_entropy": 1, name: usual.get(name, 1), "tsd": 1}
    _, facts = networks.open_network(out)
    losses = [epoch["train_loss"] for epoch in facts["history"]]
    assert len(losses) == 2
    assert np.isfinite(losses).all()


@pytest.mark.parametrize("family", ["lstm", "resnet", "inception", "lite"])
@pytest.mark.parametrize("name", NAMES)
def test_any_family_can_be_the_student(recipe, data, stages, tmp_path, name, family):
    """Layers of another kind, fewer or more channels."""
    changes = [f"student.family={family}", "student.width=3", "student.depth=2"]
    other = config.parse(config.dump(recipe), changes)
    lesson = lesson_of(other, data, stages, tmp_path)
    settings = replace(other.student.training, epochs=1)
    term = WeightedObjective(objective=made(name, lesson))

    history = fit(lesson.student, [term], training_data(data), settings, seed=0)

    assert np.isfinite([history[0].train_loss, history[0].validation_loss]).all()


@pytest.mark.parametrize("name", NAMES)
def test_batches_of_one_and_mixed_precision(recipe, lesson, data, name):
    known = training_data(data)
    few = replace(known, train=known.train[:3], validation=known.validation[:2])
    settings = replace(recipe.student.training, epochs=1, batch_size=1, precision="bf16-mixed")

    history = fit(
        lesson.student, [WeightedObjective(objective=made(name, lesson))], few, settings, seed=0
    )

    assert np.isfinite([history[0].train_loss, history[0].validation_loss]).all()


@pytest.mark.parametrize("name", NAMES)
def test_training_changes_the_student_and_what_is_learned_beside_it(recipe, lesson, data, name):
    """By its gradient alone: there is no other term, and no weight decay."""
    term = made(name, lesson)
    own = list(term.parameters())
    trained = [next(lesson.student.parameters()), *own]
    before = [p.clone() for p in trained]
    settings = replace(recipe.student.training, epochs=1, weight_decay=0.0, select="last")

    fit(lesson.student, [WeightedObjective(objective=term)], training_data(data), settings, seed=0)

    assert bool(own) == (name in LEARNING)
    assert all((a != b).any() for a, b in zip(before, trained, strict=True))


def test_what_is_learned_begins_as_the_seed_says(recipe, data, stages, tmp_path):
    """Whatever else was drawn before."""
    first = made("fitnets", lesson_of(recipe, data, stages, tmp_path))
    torch.rand(7)
    again = made("fitnets", lesson_of(recipe, data, stages, tmp_path))
    seeded = recipe.model_copy(update={"seed": 9})
    other = made("fitnets", lesson_of(seeded, data, stages, tmp_path))

    weights = [term.regressor.weight for term in (first, again, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


class Killed(Exception):
    """Stands for whatever ends a run from outside."""


@pytest.mark.parametrize("name", ["vid", "memkd", "sskd"])
def test_a_resumed_run_ends_the_same(recipe, data, stages, tmp_path, name):
    """Bit for bit, also what the objective learned itself and what it draws."""
    settings = replace(recipe.student.training, epochs=4)

    def run(folder: str, **options) -> tuple[nn.Module, Objective]:
        lesson = lesson_of(recipe, data, stages, tmp_path)
        term = made(name, lesson)
        records = RunOutputs(checkpoint=tmp_path / folder)
        terms = [WeightedObjective(objective=term)]
        fit(
            lesson.student, terms, training_data(data), settings, seed=0, outputs=records, **options
        )
        return lesson.student, term

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


def test_a_layer_that_is_not_there(lesson):
    term = AttentionConfig(name="at", teacher_layer="blocks.77")

    with pytest.raises(ConfigError, match=r"teacher has no layer 'blocks.77'.*blocks\.1"):
        build_objective(term, lesson)


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
def test_sskd_needs_embeddings(lesson, monkeypatch, whose):
    if whose == "teacher":
        monkeypatch.setattr(ObjectiveContext, "teacher_network", lambda *_: Bare())
    else:
        lesson = replace(lesson, student=Bare())

    with pytest.raises(ConfigError, match="Bare has no linear layer"):
        build_objective(SSKDConfig(name="sskd"), lesson)


def test_dih_needs_layers_over_time(lesson, monkeypatch):
    monkeypatch.setattr(ObjectiveContext, "teacher_network", lambda *_: Flat())

    with pytest.raises(ConfigError, match="no layer with an output over time"):
        build_objective(DIHConfig(name="dih"), lesson)


def test_the_cohort_is_the_heads_and_the_teacher(lesson):
    term = build_objective(DIHConfig(name="dih", heads=1), lesson)

    assert term.cohort.shape == (2, len(lesson.logits), 2)
    assert torch.equal(term.cohort[1], lesson.logits)
