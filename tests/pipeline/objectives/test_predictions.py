"""Objectives of a teacher's answers and maps, and their controls, by recipe."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from edgedistill.distillation.context import ObjectiveContext
from edgedistill.distillation.objectives import KD, Objective, TSDMaps, build_objective
from edgedistill.distillation.objectives.baselines.ablation_controls import (
    RANDOM_SEED,
    match_logit_scale,
)
from edgedistill.distillation.objectives.baselines.ensemble import Ensemble
from edgedistill.errors import ConfigError
from edgedistill.io.files import read_json
from edgedistill.pipeline import networks
from edgedistill.pipeline.objective_context import objective_context
from edgedistill.pipeline.run_folder import TRIALS
from edgedistill.pipeline.stages.student import make_student
from edgedistill.pipeline.stages.teacher import (
    open_teacher_outputs,
    perturbation_plan,
    training_data,
)
from edgedistill.recipe import recipe as config
from edgedistill.recipe.recipe import Recipe
from edgedistill.saliency.occlusion import explain
from edgedistill.teachers import TorchClassifier

USUAL = {
    "dkd": 1,
    "dist": 1,
    "e2kd": 1,
    "ranking": 1,
    "ensemble": 0.9,
    "shuffled_saliency": 1,
    "random_teacher": 0.9,
    "random_saliency": 1,
}
TSD = "{name: tsd, windows: 4, width: 6, bank: 4}"


def written(name: str, stages: Path) -> str:
    """Return a term as a recipe names it, with what has no default."""
    more = f", sources: [{stages / 'student'}]" if name == "ensemble" else ""
    return f"{{name: {name}{more}}}"


def lesson_of(recipe: Recipe, data, stages: Path) -> ObjectiveContext:
    """What a student of the tiny run is taught from."""
    knowledge, _ = open_teacher_outputs(stages / "teacher")
    student = networks.build_untrained(recipe.student, data, seed=recipe.seed)
    return objective_context(recipe, data, stages / "teacher", knowledge, student, stages)


def made(name: str, lesson: ObjectiveContext, stages: Path) -> Objective:
    settings = [f"student.objectives=[{written(name, stages)}]"]
    parsed = config.parse("", settings)
    return build_objective(parsed.student.objectives[0], lesson)


@pytest.mark.parametrize("name", USUAL)
def test_it_distills_by_recipe(recipe, data, stages, tmp_path, name):
    """Two epochs beside cross-entropy and TSD, and another student than without it."""
    others = "{name: cross_entropy}", TSD
    weights = []
    for index, terms in enumerate((others, (*others, written(name, stages)))):
        out, work = tmp_path / f"out{index}", tmp_path / "work"
        out.mkdir()
        work.mkdir(exist_ok=True)
        settings = [f"student.objectives=[{', '.join(terms)}]"]

        changed = config.parse(config.dump(recipe), settings)
        make_student(changed, data, stages / "teacher", out, work)

        model, facts = networks.open_network(out)
        assert np.isfinite([epoch["train_loss"] for epoch in facts["history"]]).all()
        weights.append(np.concatenate([p.detach().numpy().ravel() for p in model.parameters()]))

    found = read_json(out / TRIALS)["trials"][0]["weights"]
    assert found == {"cross_entropy": 1, "tsd": 1, name: USUAL[name]}
    assert np.abs(weights[0] - weights[1]).max() > 1e-4


@pytest.mark.parametrize("name", ["e2kd", "ranking", "shuffled_saliency"])
def test_a_file_of_logits_has_no_maps(recipe, data, stages, name):
    lesson = lesson_of(recipe, data, stages)
    silenced = replace(lesson, has_maps=False)

    with pytest.raises(ConfigError, match=rf"The objective {name} asks the teacher about pertur"):
        made(name, silenced, stages)


@pytest.mark.parametrize(
    ("written", "settings"),
    [
        (
            "{name: dkd, alpha: 2, beta: 3, temperature: 5, warmup: 7}",
            {"_alpha": 2, "_beta": 3, "_temperature": 5, "_warmup": 7},
        ),
        (
            "{name: dist, beta: 2, gamma: 3, temperature: 5}",
            {"_beta": 2, "_gamma": 3, "_temperature": 5},
        ),
        ("{name: ranking, top: 0.01}", {"_places": 1}),
        ("{name: random_teacher, temperature: 5}", {"temperature": 5}),
    ],
)
def test_settings_arrive(recipe, data, stages, written, settings):
    parsed = config.parse(config.dump(recipe), [f"student.objectives=[{written}]"])

    term = build_objective(parsed.student.objectives[0], lesson_of(recipe, data, stages))

    assert {name: getattr(term, name) for name in settings} == settings


def test_an_ensemble_is_the_teacher_and_its_sources(recipe, data, stages):
    lesson = lesson_of(recipe, data, stages)
    model, _ = networks.open_network(stages / "student")
    known = training_data(data)
    other = TorchClassifier(model, classes=2).logits(known.series.numpy())

    for weighting, temperature in (("correctness", 4.0), ("agreement", 2.0)):
        settings = f"weighting: {weighting}, temperature: {temperature}"
        sources = f"sources: [{stages / 'student'}]"
        term = f"student.objectives=[{{name: ensemble, {sources}, {settings}}}]"
        parsed = config.parse(config.dump(recipe), [term]).student.objectives[0]

        taught = build_objective(parsed, lesson).teacher

        expected = Ensemble(
            [lesson.logits, torch.from_numpy(other)],
            known.labels,
            temperature=temperature,
            weighting=weighting,
        )
        torch.testing.assert_close(taught, expected.teacher)


def test_an_ensemble_without_sources_is_refused(recipe):
    with pytest.raises(ConfigError, match=r"objectives\.0\.sources is \[\].*at least 1"):
        config.parse("", ["student.objectives=[{name: ensemble, sources: []}]"])


def test_shuffled_maps_are_the_teachers_of_other_series(recipe, data, stages):
    """Training and validation series apart, about the classes of the series themselves."""
    lesson = lesson_of(recipe, data, stages)
    known, border = lesson.explanation, len(data.train.y)

    term = made("shuffled_saliency", lesson, stages)

    own = torch.from_numpy(known.signed)
    assert isinstance(term, TSDMaps)
    for rows in (slice(None, border), slice(border, None)):
        moved, maps = term.teacher_map[rows], own[rows]
        assert (moved != maps).any(dim=1).all()
        assert sorted(moved.tolist()) == sorted(maps.tolist())
    np.testing.assert_array_equal(term.targets.numpy(), known.logits.argmax(axis=1))


def test_a_random_teacher_is_an_untrained_one(recipe, data, stages):
    """Of the teacher's kind, the same for its answers and its maps, and not the student's start."""
    lesson = lesson_of(recipe, data, stages)
    module = networks.build_untrained(recipe.teacher, data, seed=recipe.seed + RANDOM_SEED)
    untrained = TorchClassifier(module, classes=2)
    plan = perturbation_plan(recipe, 24)
    said = explain(untrained.logits, training_data(data).series.numpy(), plan)

    answers, maps = (made(f"random_{what}", lesson, stages) for what in ("teacher", "saliency"))

    assert isinstance(answers, KD)
    expected = match_logit_scale(said.logits, lesson.explanation.logits)
    np.testing.assert_allclose(answers.teacher.numpy(), expected, rtol=1e-2, atol=1e-2)
    np.testing.assert_allclose(maps.teacher_map.numpy(), said.signed, atol=1e-5)
    again = made("random_teacher", lesson, stages)
    assert torch.equal(again.teacher, answers.teacher)
    begun = networks.build_untrained(recipe.teacher, data, seed=recipe.seed)
    assert not torch.equal(next(begun.parameters()), next(module.parameters()))
