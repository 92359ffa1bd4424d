"""The windows of `tsd` by recipe: widths, draws, losses, and the banks that belong to them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgedistill.distillation.objectives import TSD, Batch, MultiWidthObjective, build_objective
from edgedistill.errors import ConfigError, DataError
from edgedistill.pipeline import networks
from edgedistill.pipeline.objective_context import objective_context
from edgedistill.pipeline.stages.student import make_student
from edgedistill.pipeline.stages.teacher import (
    open_teacher_outputs,
    perturbation_plan,
    training_data,
)
from edgedistill.recipe import recipe as config
from edgedistill.teachers.importance import start_probabilities

PUBLISHED = "windows: 4, width: 6, bank: 4"
SETTINGS = {
    "widths": "windows: 5, width: [6, 3], bank: 4",
    "widths, asked": "windows: 5, width: [6, 3], bank: 0",
    "importance": f"{PUBLISHED}, draw: importance",
    "importance, asked": "windows: 4, width: 6, bank: 0, draw: importance",
    "cosine": f"{PUBLISHED}, loss: cosine",
    "ranking": f"{PUBLISHED}, loss: ranking",
    "all": "windows: 5, width: [6, 3], bank: 4, draw: importance, loss: ranking",
    "ramp": f"{PUBLISHED}, ramp: 1",
}


def recipe_of(recipe, settings: str):
    terms = f"[{{name: cross_entropy}}, {{name: tsd, {settings}}}]"
    return config.parse(config.dump(recipe), [f"student.objectives={terms}"])


def made(recipe, data, stages: Path, home: Path, settings: str, *, maps: bool = True):
    """Return the objective that a recipe asks for."""
    changed = recipe_of(recipe, settings)
    knowledge, _ = open_teacher_outputs(stages / "teacher")
    student = networks.build_untrained(changed.student, data, seed=0)
    knowledge = replace(knowledge, maps=maps)
    lesson = objective_context(changed, data, stages / "teacher", knowledge, student, home)
    return build_objective(changed.student.objectives[1], lesson)


def distilled(recipe, data, stages: Path, home: Path, settings: str) -> np.ndarray:
    """Return the weights of a student that was trained for two epochs."""
    out, work = home / "out", home / "work"
    for folder in (out, work):
        folder.mkdir(parents=True)
    make_student(recipe_of(recipe, settings), data, stages / "teacher", out, work)
    model, facts = networks.open_network(out)
    assert np.isfinite([epoch["train_loss"] for epoch in facts["history"]]).all()
    return np.concatenate([p.detach().numpy().ravel() for p in model.parameters()])


@pytest.fixture(scope="module")
def published(recipe, data, stages, tmp_path_factory) -> np.ndarray:
    return distilled(recipe, data, stages, tmp_path_factory.mktemp("published"), PUBLISHED)


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=list(SETTINGS))
def test_it_distills_by_recipe(recipe, data, stages, tmp_path, published, settings):
    """Two epochs, and another student than the published objective makes."""
    weights = distilled(recipe, data, stages, tmp_path, settings)

    assert np.abs(weights - published).max() > 1e-4


def test_every_width_has_its_share_of_windows_and_a_bank(recipe, data, stages, tmp_path):
    """A bank of one width is the one that this width alone would draw from."""
    scales = made(recipe, data, stages, tmp_path, SETTINGS["widths"])

    assert isinstance(scales, MultiWidthObjective)
    assert [(part._width, part._windows) for part in scales.parts] == [(6, 3), (3, 2)]
    assert scales._shares == [0.6, 0.4]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bank-3-8", "bank-6-12"]
    alone = made(recipe, data, stages, tmp_path, "windows: 3, width: 6, bank: 4")
    assert isinstance(alone, TSD)
    np.testing.assert_array_equal(alone._teacher.logits, scales.parts[0]._teacher.logits)


@pytest.mark.parametrize("bank", [0, 2])
def test_widths_draw_places_of_their_own(recipe, data, stages, tmp_path, bank):
    """The same draws for all of them would look at a third of the places."""
    settings = f"windows: 400, width: [6, 5], bank: {bank}, draw: importance"
    known = training_data(data)
    batch = Batch(known.train[:4], known.series[:4], known.labels[:4], step=3)

    scales = made(recipe, data, stages, tmp_path, settings)

    first, second = (part._draw(batch)[0].ravel() for part in scales.parts)
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.4


def test_the_bound_on_disk_is_that_of_all_widths_together(recipe, data, stages, tmp_path):
    settings = "windows: 4, width: [6, 3], bank: 100, bank_mib: 0.02"

    made(recipe, data, stages, tmp_path, settings)

    size = sum(path.stat().st_size for path in tmp_path.rglob("*.npy"))
    assert 0.8 * 0.02 * 2**20 < size <= 0.02 * 2**20


def test_importance_draws_by_the_teachers_map(recipe, data, stages, tmp_path):
    """With a bank and without; the chances are those of the teacher's KL maps."""
    asked = made(recipe, data, stages, tmp_path, SETTINGS["importance, asked"])
    many = "windows: 400, width: 6, bank: 1, draw: importance"

    bank = made(recipe, data, stages, tmp_path, many)._teacher

    knowledge, _ = open_teacher_outputs(stages / "teacher")
    kl = np.concatenate([knowledge.splits[name].kl for name in ("train", "validation")])
    expected = start_probabilities(kl, perturbation_plan(recipe, 24), 6)
    np.testing.assert_array_equal(asked._start_weights, expected)
    assert [path.name for path in tmp_path.iterdir()] == ["bank-6-400-importance"]
    drawn = [np.bincount(row, minlength=19) / 400 for row in bank.starts]
    assert len(drawn) == len(training_data(data).series)
    np.testing.assert_allclose(drawn, expected, atol=0.12)


def test_a_bank_of_another_draw_is_another_bank(recipe, data, stages, tmp_path):
    """The one that is drawn evenly stays where it was."""
    made(recipe, data, stages, tmp_path, PUBLISHED)
    before = (tmp_path / "bank-6-16" / "stage.json").stat()

    made(recipe, data, stages, tmp_path, SETTINGS["importance"])
    made(recipe, data, stages, tmp_path, PUBLISHED)

    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["bank-6-16", "bank-6-16-importance"]
    assert (tmp_path / "bank-6-16" / "stage.json").stat().st_mtime_ns == before.st_mtime_ns


def test_a_teacher_without_maps_is_refused(recipe, data, stages, tmp_path):
    with pytest.raises(ConfigError, match="The objective tsd asks the teacher about perturbed"):
        made(recipe, data, stages, tmp_path, SETTINGS["importance"], maps=False)


def test_one_of_several_widths_that_does_not_fit_is_refused(recipe, data, stages, tmp_path):
    with pytest.raises(DataError, match="window of 25 steps does not fit a series of 24"):
        made(recipe, data, stages, tmp_path, "windows: 4, width: [6, 25], bank: 4")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ("width: [5, 3, 5]", r"objectives\.1\.width is \[5, 3, 5\]\. Name .* each of them once"),
        ("width: []", r"objectives\.1\.width is \[\]\. Name at least one width"),
        ("width: [5, 0]", r"objectives\.1\.width\.1 is 0\. .*greater than or equal to 1"),
        ("windows: 2, width: [3, 5, 7]", r"objectives\.1\.windows is 2 for 3 widths"),
        ("loss: ranking, form: elementwise", r"objectives\.1\.loss is 'ranking' beside form"),
        ("loss: l2", r"objectives\.1\.loss is 'l2'\. .*'smooth_l1', 'cosine' or 'ranking'"),
        ("draw: often", r"objectives\.1\.draw is 'often'\. .*'uniform' or 'importance'"),
    ],
)
def test_settings_that_make_no_sense(recipe, settings, message):
    with pytest.raises(ConfigError, match=message):
        recipe_of(recipe, settings)
