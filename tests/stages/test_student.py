"""The student stage: every open weight is tried, validation series choose."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgedistill import config, metrics
from edgedistill.config import Recipe
from edgedistill.distill.knowledge import explain_like
from edgedistill.distill.selection import Trial, choose
from edgedistill.files import read_json
from edgedistill.stages import networks
from edgedistill.stages.student import TRIALS, make_student
from edgedistill.stages.teacher import open_knowledge, plan_of
from edgedistill.teachers import TorchTeacher


def distilled(recipe: Recipe, data, stages: Path, folder: Path, *settings: str):
    """Distill with other settings and return what was tried and what was heard."""
    for name in ("out", "work"):
        (folder / name).mkdir()
    heard = []
    changed = config.parse(config.dump(recipe), settings)
    make_student(
        changed,
        data,
        stages / "teacher",
        folder / "out",
        folder / "work",
        lambda *told: heard.append(told),
    )
    return read_json(folder / "out" / TRIALS), heard


def test_every_open_weight_is_tried_and_the_best_is_taken(recipe, data, stages):
    found = read_json(stages / "student" / TRIALS)

    trials = [Trial(**trial) for trial in found["trials"]]
    assert [trial.weights for trial in trials] == [
        {"cross_entropy": 0.1, "kd": 0.9, "tsd_maps": weight} for weight in (1.0, 3.0)
    ]
    assert found["chosen"] == choose(trials, len(data.validation.y))


def test_the_student_of_the_folder_is_the_chosen_one(recipe, data, stages):
    """Its scores on validation series are those that were written down."""
    found = read_json(stages / "student" / TRIALS)
    model, facts = networks.open_network(stages / "student")
    knowledge, _ = open_knowledge(stages / "teacher")
    teacher = knowledge.splits["validation"]

    student = TorchTeacher(model, classes=2, name="student")
    said = explain_like(student.logits, data.validation.x, plan_of(recipe, 24), teacher)

    taken = found["trials"][found["chosen"]]
    assert taken["accuracy"] == metrics.correct(said.logits, data.validation.y).mean()
    match = metrics.pearson(teacher.signed, said.signed).mean()
    assert taken["saliency_pearson"] == pytest.approx(match, abs=1e-4)
    assert len(facts["history"]) == recipe.student.training.epochs


def test_weights_of_several_objectives_are_crossed(recipe, data, stages, tmp_path):
    objectives = "[{name: cross_entropy, weight: [0.1, 1]}, {name: kd, weight: [0.5, 0.9]}]"
    settings = (f"student.objectives={objectives}", "student.training.epochs=1")

    found, heard = distilled(recipe, data, stages, tmp_path, *settings)

    assert [tuple(trial["weights"].values()) for trial in found["trials"]] == [
        *((0.1, 0.5), (0.1, 0.9)),
        *((1, 0.5), (1, 0.9)),
    ]
    assert heard == [(f"distill {number} of 4", 1, 1) for number in range(1, 5)]
    assert {p.name for p in (tmp_path / "out").iterdir()} == {
        *(networks.WEIGHTS, networks.FACTS, TRIALS)
    }


@pytest.mark.parametrize("form", ["summed", "elementwise"])
def test_the_published_objective_distills(recipe, data, stages, tmp_path, form):
    term = f"{{name: tsd, windows: 4, width: 6, form: {form}}}"

    found, heard = distilled(
        recipe, data, stages, tmp_path, f"student.objectives=[{{name: cross_entropy}}, {term}]"
    )

    assert [trial["weights"] for trial in found["trials"]] == [{"cross_entropy": 1, "tsd": 1}]
    assert heard == [("distill", 1, 2), ("distill", 2, 2)]


def test_the_objectives_make_a_difference(recipe, data, stages, tmp_path):
    """Each one pulls the weights its own way, so none is left out on the way to training."""
    weights = []
    for name in ("cross_entropy", "kd", "tsd", "tsd_maps"):
        (tmp_path / name).mkdir()
        distilled(recipe, data, stages, tmp_path / name, f"student.objectives=[{{name: {name}}}]")
        model, _ = networks.open_network(tmp_path / name / "out")
        weights.append(np.concatenate([p.detach().numpy().ravel() for p in model.parameters()]))

    for index, one in enumerate(weights):
        for other in weights[index + 1 :]:
            assert np.abs(one - other).max() > 1e-4
