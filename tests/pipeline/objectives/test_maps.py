"""Whole maps by recipe: their plans, the teachers who are asked for them, and what is kept."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from edgedistill.distillation.context import ObjectiveContext
from edgedistill.distillation.objectives import (
    Batch,
    Objective,
    StudentOutputs,
    TSDMaps,
    build_objective,
)
from edgedistill.errors import ConfigError, DataError
from edgedistill.io.files import read_json
from edgedistill.pipeline import networks
from edgedistill.pipeline import objective_context as contexts
from edgedistill.pipeline.objective_context import objective_context
from edgedistill.pipeline.run_folder import TRIALS
from edgedistill.pipeline.stages.student import make_student
from edgedistill.pipeline.stages.teacher import (
    open_teacher,
    open_teacher_outputs,
    training_data,
)
from edgedistill.recipe import recipe as config
from edgedistill.saliency.perturbation import PerturbationPlan
from edgedistill.teachers import TorchClassifier
from edgedistill.teachers.outputs import explain_teacher_class


def context_of(recipe, data, teacher: Path, cache_folder: Path) -> ObjectiveContext:
    outputs, _ = open_teacher_outputs(teacher)
    student = networks.build_untrained(recipe.student, data, seed=recipe.seed)
    return objective_context(recipe, data, teacher, outputs, student, cache_folder)


@pytest.fixture
def lesson(recipe, data, stages, tmp_path, opened) -> ObjectiveContext:
    """What a student of the tiny run is taught from, with an empty folder for what is kept."""
    del opened  # counts from the first opening on
    return context_of(recipe, data, stages / "teacher", tmp_path)


def made(lesson: ObjectiveContext, settings: str) -> Objective:
    text = f"student.objectives=[{{name: tsd_maps, {settings}}}]"
    return build_objective(config.parse("", [text]).student.objectives[0], lesson)


def said_by(lesson: ObjectiveContext, asked: Objective, batch: Batch) -> StudentOutputs:
    """What the untrained student says of an objective's windows, a copy at a time."""
    student = lesson.student.eval()
    windows = asked.windows(batch)
    changes = []
    with torch.no_grad():
        clean = student(batch.series)
        for part in windows.widths:
            for w in range(part.patches.shape[1]):
                copies = batch.series.clone()
                start = int(part.starts[0, w])
                copies[:, :, start : start + part.patches.shape[3]] = part.patches[:, w]
                changes.append(student(copies) - clean)
    return StudentOutputs(clean, windows, torch.stack(changes, dim=1))


def batch_of(lesson: ObjectiveContext, *rows: int) -> Batch:
    known, chosen = lesson.data, torch.tensor(rows)
    return Batch(chosen, known.series[chosen], known.labels[chosen])


@pytest.fixture
def opened(monkeypatch) -> list[str]:
    """An entry each time that the teacher is opened to be asked."""
    found: list[str] = []

    def counted(recipe, data, folder):
        found.append(folder.name)
        return open_teacher(recipe, data, folder)

    monkeypatch.setattr(contexts, "open_teacher", counted)
    return found


@pytest.mark.parametrize(
    "settings",
    ["map: timesteps", "widths: [3, 8]", "widths: [4, 2, 6], map: timesteps", "sources: [SOURCE]"],
)
def test_it_distills_by_recipe(recipe, data, stages, tmp_path, settings):
    """Two epochs, and another student than by the map of the shared plan."""
    weights = []
    for name, more in (("usual", "weight: 1"), ("other", settings)):
        (tmp_path / name / "out").mkdir(parents=True)
        (tmp_path / name / "work").mkdir()
        term = f"{{name: tsd_maps, {more}}}".replace("SOURCE", str(stages / "student"))
        changed = config.parse(
            config.dump(recipe), [f"student.objectives=[{{name: cross_entropy}}, {term}]"]
        )

        make_student(
            changed, data, stages / "teacher", tmp_path / name / "out", tmp_path / name / "work"
        )

        model, facts = networks.open_network(tmp_path / name / "out")
        assert np.isfinite([epoch["train_loss"] for epoch in facts["history"]]).all()
        weights.append(np.concatenate([p.detach().numpy().ravel() for p in model.parameters()]))
    assert np.abs(weights[0] - weights[1]).max() > 1e-4
    trials = read_json(tmp_path / "other" / "out" / TRIALS)["trials"]
    assert trials[0]["weights"] == {"cross_entropy": 1, "tsd_maps": 1}


def test_by_default_nobody_is_asked(lesson, opened, tmp_path):
    """The maps of the shared plan are known already."""
    term = made(lesson, "weight: 2")

    assert isinstance(term, TSDMaps)
    np.testing.assert_array_equal(term.teacher_map.numpy(), lesson.explanation.signed)
    assert opened == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("map_", ["windows", "timesteps"])
def test_several_widths_are_the_mean_of_a_map_each(recipe, lesson, data, stages, map_):
    """Each under a plan of its own, with the shared baseline and half its width as stride."""
    term, batch = made(lesson, f"widths: [3, 8], map: {map_}"), batch_of(lesson, 0, 5, 20)

    loss = term(batch, said_by(lesson, term, batch))

    teacher, known = open_teacher(recipe, data, stages / "teacher"), training_data(data)
    losses = []
    for width, half in ((3, 1), (8, 4)):
        stride = half if map_ == "windows" else 1
        plan = PerturbationPlan(length=24, width=width, stride=stride)
        maps = explain_teacher_class(teacher, known.series.numpy(), plan, lesson.explanation)
        alone = TSDMaps(replace(maps, logits=lesson.explanation.logits), plan, over=map_)
        losses.append(alone(batch, said_by(lesson, alone, batch)).item())
    assert loss.item() == pytest.approx(np.mean(losses), abs=1e-4)
    assert losses[0] != pytest.approx(losses[1], abs=1e-3)


def test_maps_of_several_teachers_are_averaged(lesson, data, stages):
    """Each divided by its norm, and all of the class that the first one predicts."""
    term = made(lesson, f"sources: [{stages / 'student'}]")

    module, _ = networks.open_network(stages / "student")
    other, known = TorchClassifier(module, classes=2), training_data(data).series.numpy()
    signed = explain_teacher_class(other, known, lesson.plan, lesson.explanation).signed
    units = [
        m / np.linalg.norm(m, axis=1, keepdims=True) for m in (lesson.explanation.signed, signed)
    ]
    np.testing.assert_allclose(term.teacher_map.numpy(), sum(units) / 2, atol=1e-4)
    np.testing.assert_array_equal(term.targets.numpy(), lesson.explanation.logits.argmax(axis=1))


@pytest.mark.parametrize(
    ("first", "second", "times"),
    [
        ("widths: [6], map: timesteps", "widths: [6], map: timesteps, weight: 3, start: 0.5", 1),
        ("map: timesteps, widths: [3]", "map: timesteps, widths: [5, 3]", 2),
        ("widths: [4, 8]", "widths: [8]", 2),
    ],
    ids=["weight", "more widths", "fewer widths"],
)
def test_a_plan_is_asked_about_once(lesson, opened, tmp_path, first, second, times):
    """Another student finds what is kept, and asks only for what is not."""
    made(lesson, first)
    made(replace(lesson, seed=7), second)

    assert len(opened) == times
    assert len(list(tmp_path.glob("maps-*"))) == times


@pytest.mark.parametrize("change", ["baseline", "data", "teacher", "damage"])
def test_what_maps_depend_on_means_asking_anew(
    recipe, lesson, data, stages, tmp_path, opened, change
):
    made(lesson, "widths: [3]")
    if change == "baseline":
        lesson = replace(lesson, plan=replace(lesson.plan, baseline="zero"))
    elif change == "data":
        louder = replace(lesson.data, series=lesson.data.series + 0.01)
        lesson = replace(lesson, data=louder)
    elif change == "teacher":
        shutil.copytree(stages / "teacher", tmp_path / "second")
        known, _ = open_teacher_outputs(stages / "teacher")
        replace(known, unseen=known.splits["test"]).save(tmp_path / "second" / "knowledge.npz")
        lesson = context_of(recipe, data, tmp_path / "second", tmp_path)
    else:
        path = tmp_path / "maps-3-1" / "signed.npy"
        path.write_bytes(path.read_bytes()[:-1] + b"!")

    made(lesson, "widths: [3]")

    assert len(opened) == 2


def test_another_teacher_is_known_by_its_answers(lesson, stages, tmp_path):
    """The same file name with another network in it is asked anew."""
    source, found = tmp_path / "second.onnx", []
    for name in ("model/student.onnx", "variants/ort-int8.onnx"):
        shutil.copyfile(stages / name, source)
        found.append(made(lesson, f"sources: [{source}]").teacher_map)

    assert not torch.equal(*found)
    assert len(list(tmp_path.glob("maps-*"))) == 1


def test_the_files_of_its_teachers_belong_to_the_student(lesson, stages):
    term = f"student.objectives=[{{name: tsd_maps, sources: [{stages / 'student'}]}}]"

    (section,) = config.parse("", [term]).student.objectives

    assert section.other_teachers == (str(stages / "student"),)


def test_files_of_logits_have_no_maps(lesson, data, tmp_path):
    """Neither as the teacher nor as one of several."""
    table = tmp_path / "logits.npz"
    np.savez(table, train=np.zeros((len(training_data(data).series), 2)))
    silenced = replace(lesson, has_maps=False)

    with pytest.raises(ConfigError, match="The objective tsd_maps asks the teacher about pertur"):
        made(silenced, "map: timesteps")
    with pytest.raises(
        ConfigError, match=r"asks .*logits\.npz about pert.*Leave it out of sources"
    ):
        made(lesson, f"sources: [{table}]")


def test_a_width_beyond_the_series_is_refused(lesson, tmp_path):
    with pytest.raises(DataError, match="window of 25 steps does not fit a series of 24"):
        made(lesson, "widths: [25]")
    assert not [path for path in tmp_path.iterdir() if path.is_dir()]
