"""The student stage: every open weight is tried, validation series choose."""

from __future__ import annotations

import numpy as np
import pytest

from edgedistill.evaluation import metrics
from edgedistill.io.files import read_json
from edgedistill.pipeline.run_folder import TRIALS
from edgedistill.pipeline.stages.teacher import open_teacher_outputs, perturbation_plan
from edgedistill.saliency.occlusion import explain
from edgedistill.teachers import TorchClassifier
from edgedistill.training import networks
from edgedistill.training.weight_search import Trial, choose

pytestmark = pytest.mark.slow


def test_every_candidate_weight_is_trained_and_the_best_is_taken(recipe, data, stages):
    found = read_json(stages / "student" / TRIALS)

    trials = [Trial(**{name: trial[name] for name in Trial.__slots__}) for trial in found["trials"]]
    assert [trial.weights for trial in trials] == [
        {"cross_entropy": 0.1, "kd": 0.9, "tsd_maps": weight} for weight in (1.0, 3.0)
    ]
    assert found["chosen"] == choose(trials, len(data.validation.y))


def test_folder_has_the_chosen_student(recipe, data, stages):
    """Its scores on validation series are those that were written down."""
    found = read_json(stages / "student" / TRIALS)
    model, facts = networks.open_network(stages / "student")
    knowledge, _ = open_teacher_outputs(stages / "teacher")
    teacher = knowledge.splits["validation"]

    student = TorchClassifier(model, classes=2, name="student")
    targets = teacher.logits.argmax(axis=1)
    said = explain(
        student.logits, data.validation.x, perturbation_plan(recipe, 24), targets=targets
    )

    taken = found["trials"][found["chosen"]]
    assert taken["accuracy"] == metrics.correct(said.logits, data.validation.y).mean()
    match = metrics.pearson(teacher.signed, said.signed).mean()
    assert taken["saliency_pearson"] == pytest.approx(match, abs=1e-4)
    assert len(facts["history"]) == recipe.student.training.epochs


def test_weights_of_several_objectives_are_crossed(train_student, recipe, data, stages, tmp_path):
    objectives = "[{name: cross_entropy, weight: [0.1, 1]}, {name: kd, weight: [0.5, 0.9]}]"
    settings = (f"student.objectives={objectives}", "student.training.epochs=1")

    found, progress = train_student(recipe, data, stages, tmp_path, *settings)

    assert [tuple(trial["weights"].values()) for trial in found["trials"]] == [
        *((0.1, 0.5), (0.1, 0.9)),
        *((1, 0.5), (1, 0.9)),
    ]
    assert progress == [(f"distill {number} of 4", 1, 1) for number in range(1, 5)]
    assert {p.name for p in (tmp_path / "out").iterdir()} == {
        *(networks.WEIGHTS, networks.FACTS, TRIALS)
    }


@pytest.mark.parametrize("form", ["summed", "elementwise"])
def test_the_published_objective_distills(train_student, recipe, data, stages, tmp_path, form):
    term = f"{{name: tsd, windows: 4, width: 6, form: {form}}}"

    found, progress = train_student(
        recipe, data, stages, tmp_path, f"student.objectives=[{{name: cross_entropy}}, {term}]"
    )

    assert [trial["weights"] for trial in found["trials"]] == [{"cross_entropy": 1, "tsd": 1}]
    assert progress[-2:] == [("distill", 1, 2), ("distill", 2, 2)]
    known = len(data.train.y) + len(data.validation.y)
    assert progress[-3] == ("ask the teacher about windows", known, known)


def test_objectives_give_different_weights(train_student, recipe, data, stages, tmp_path):
    """Each one pulls the weights its own way, so none is left out on the way to training."""
    weights = []
    for name in ("cross_entropy", "kd", "tsd", "tsd_maps"):
        (tmp_path / name).mkdir()
        train_student(
            recipe, data, stages, tmp_path / name, f"student.objectives=[{{name: {name}}}]"
        )
        model, _ = networks.open_network(tmp_path / name / "out")
        weights.append(np.concatenate([p.detach().numpy().ravel() for p in model.parameters()]))

    for index, one in enumerate(weights):
        for other in weights[index + 1 :]:
            assert np.abs(one - other).max() > 1e-4
