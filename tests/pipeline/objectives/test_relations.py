"""Objectives of relations among series, by recipe."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from edgedistill.distillation.context import ObjectiveContext
from edgedistill.distillation.objectives import Objective, WeightedObjective, build_objective
from edgedistill.distillation.objectives.baselines.crd import CRD, CRDConfig
from edgedistill.distillation.objectives.baselines.rkd import RKDConfig
from edgedistill.distillation.objectives.baselines.sp import SPConfig
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

USUAL = {"rkd": 1, "sp": 3000, "crd": 0.8}
TSD = "{name: tsd, windows: 4, width: 6, bank: 4}"


def lesson_of(recipe: Recipe, data, stages: Path, home: Path) -> ObjectiveContext:
    """What a student of the tiny run is taught from."""
    knowledge, _ = open_teacher_outputs(stages / "teacher")
    student = networks.build_untrained(recipe.student, data, seed=recipe.seed)
    return objective_context(recipe, data, stages / "teacher", knowledge, student, home)


@pytest.mark.parametrize("name", USUAL)
def test_it_distills_by_recipe(recipe, data, stages, tmp_path, name):
    """Two epochs beside cross-entropy and TSD, by its name alone."""
    settings = [f"student.objectives=[{{name: cross_entropy}}, {{name: {name}}}, {TSD}]"]
    out, work = tmp_path / "out", tmp_path / "work"
    out.mkdir()
    work.mkdir()

    changed = config.parse(config.dump(recipe), settings)
    make_student(changed, data, stages / "teacher", out, work)

    weights = read_json(out / TRIALS)["trials"][0]["weights"]
    assert weights == {"cross_entropy": 1, name: USUAL[name], "tsd": 1}
    _, facts = networks.open_network(out)
    losses = [epoch["train_loss"] for epoch in facts["history"]]
    assert len(losses) == 2
    assert np.isfinite(losses).all()


@pytest.mark.parametrize("family", ["lstm", "resnet", "inception", "lite"])
@pytest.mark.parametrize(
    "term", [RKDConfig(name="rkd"), SPConfig(name="sp"), CRDConfig(name="crd")]
)
def test_any_family_can_be_the_student(recipe, data, stages, tmp_path, term, family):
    settings = [f"student.family={family}", "student.width=3", "student.depth=2"]
    other = config.parse(config.dump(recipe), settings)
    lesson = lesson_of(other, data, stages, tmp_path)
    before = [p.clone() for p in lesson.student.parameters()]
    once = replace(other.student.training, epochs=1, select="last")

    terms = [WeightedObjective(objective=build_objective(term, lesson))]
    history = fit(lesson.student, terms, training_data(data), once, seed=0)

    assert np.isfinite([history[0].train_loss, history[0].validation_loss]).all()
    assert (before[0] != next(iter(lesson.student.parameters()))).any()


@pytest.mark.parametrize(
    ("term", "settings"),
    [
        (RKDConfig(name="rkd", distance=2, angle=3), {"_distance": 2, "_angle": 3}),
        (
            CRDConfig(name="crd", size=7, negatives=9, temperature=0.5, momentum=0.1),
            {"_negatives": 9, "_temperature": 0.5, "_momentum": 0.1, "_seed": 5},
        ),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_settings_arrive(recipe, data, stages, tmp_path, term, settings):
    lesson = lesson_of(recipe.model_copy(update={"seed": 5}), data, stages, tmp_path)

    made = build_objective(term, lesson)

    assert {name: getattr(made, name) for name in settings} == settings
    if isinstance(made, CRD):
        assert made.of_student.shape == (len(data.train.y), 7)


class Killed(Exception):
    """Stands for whatever ends a run from outside."""


def test_a_resumed_run_ends_the_same(recipe, data, stages, tmp_path):
    """Bit for bit: projections, memory and levels, and a late start with a memory of nothing."""
    settings = replace(recipe.student.training, epochs=4)

    def run(name: str, **options) -> tuple[nn.Module, Objective]:
        lesson = lesson_of(recipe, data, stages, tmp_path)
        made = build_objective(CRDConfig(name="crd", negatives=8), lesson)
        terms = [WeightedObjective(objective=made, start=0.25)]
        terms.append(WeightedObjective(objective=build_objective(RKDConfig(name="rkd"), lesson)))
        records = RunOutputs(checkpoint=tmp_path / name)
        table = training_data(data)
        fit(lesson.student, terms, table, settings, seed=0, outputs=records, **options)
        return lesson.student, made

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
    assert torch.isfinite(whole[1].levels).all()
