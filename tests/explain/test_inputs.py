"""What a person names becomes a series, models and a plan; what does not fit is told."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from edgedistill.bundle.reader import open_bundle
from edgedistill.errors import ModelError, ShapeError, UsageError
from edgedistill.explain import ExplainedModel, PlanOverrides, RecordedExplanation, open_input
from edgedistill.explain.inputs import explained_model, named_teacher
from edgedistill.io.archives import unpack
from edgedistill.io.files import read_json, write_json
from edgedistill.pipeline.artifacts import network_of
from edgedistill.pipeline.stages.data import prepare_data
from edgedistill.recipe import recipe as config
from edgedistill.saliency.perturbation import default_plan


@pytest.fixture(scope="module")
def data(recipe):
    return prepare_data(recipe)


def _whos(subject):
    return [voice.role for voice in subject.models]


def test_a_run_brings_teacher_student_and_plan(run, recipe, data):
    """Both are networks with gradients; the series is of the test split."""
    subject = open_input(run, 3, recipe=recipe)

    assert _whos(subject) == ["teacher", "student"]
    assert all(isinstance(v, ExplainedModel) and v.network is not None for v in subject.models)
    np.testing.assert_array_equal(subject.series, data.test.x[3:4])
    assert subject.label == data.class_names[data.test.y[3]]
    assert subject.origin == "test series 3 of ItalyPowerDemand"
    assert subject.plan.to_dict() == read_json(run / "teacher" / "teacher.json")["plan"]


@pytest.mark.parametrize(
    ("place", "whos"),
    [("teacher", ["teacher"]), ("student", ["student"]), ("model/student.onnx", ["model"])],
)
def test_a_part_of_a_run_stands_alone(run, recipe, place, whos):
    """The teacher's folder, the student's, an exported file."""
    assert _whos(open_input(run / place, 0, recipe=recipe)) == whos


@pytest.mark.parametrize("place", ["student", "model/student.onnx", "teacher", "."])
@pytest.mark.parametrize("teacher", ["teacher", "variants/ort-fp32.onnx"])
def test_a_teacher_stands_first(run, recipe, place, teacher):
    """A folder that `train` wrote, or anything that `train` takes; whatever it is held against."""
    subject = open_input(run / place, 0, recipe=recipe, teacher=str(run / teacher))

    assert _whos(subject) == ["teacher", "student"]
    assert teacher.rpartition("/")[2] in subject.models[0].name


def test_a_bundle_brings_golden_series_and_what_was_said_of_them(run):
    """The teacher is recorded; only the model is asked."""
    path = run / "result" / "bundle.zip"

    subject = open_input(path, 5)

    with open_bundle(path) as bundle:
        golden = bundle.golden()
        assert subject.plan == bundle.plan
    teacher, student = subject.models
    assert isinstance(teacher, RecordedExplanation)
    np.testing.assert_array_equal(teacher.explanation.signed, golden.teacher.signed[5:6])
    np.testing.assert_array_equal(subject.series, golden.series[5:6])
    assert isinstance(student, ExplainedModel)
    np.testing.assert_allclose(
        student.classifier.logits(subject.series), golden.student.logits[5:6], rtol=1e-4, atol=1e-4
    )


def test_an_unpacked_bundle_is_a_bundle(run, tmp_path):
    """A folder with a manifest."""
    unpack(run / "result" / "bundle.zip", tmp_path / "bundle")

    assert _whos(open_input(tmp_path / "bundle", 0)) == ["teacher", "student"]


def test_a_bundle_prepares_other_series_itself(run, recipe, data):
    """With data, the index counts their test series, and nobody recorded a teacher's maps."""
    subject = open_input(run / "result" / "bundle.zip", 3, recipe=recipe)

    np.testing.assert_allclose(subject.series, data.test.x[3:4], rtol=1e-6)
    assert subject.label == data.class_names[data.test.y[3]]
    assert _whos(subject) == ["student"]
    assert "Name the teacher with --teacher" in subject.notes[0]


def test_recorded_maps_are_not_held_against_another_plan(run):
    """Their windows are others."""
    subject = open_input(run / "result" / "bundle.zip", 0, windows=PlanOverrides(width=5))

    assert _whos(subject) == ["student"]
    assert subject.plan.width == 5
    assert "under its own plan only" in subject.notes[0]


def test_a_teacher_beside_a_bundle_is_asked(run):
    """Instead of the recorded one, so under any plan."""
    subject = open_input(
        run / "result" / "bundle.zip",
        0,
        teacher=str(run / "teacher"),
        windows=PlanOverrides(width=5),
    )

    assert _whos(subject) == ["teacher", "student"]
    assert isinstance(subject.models[0], ExplainedModel)


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({}, (6, 3, "mean")),
        ({"width": 9}, (9, 4, "mean")),
        ({"width": 1}, (1, 1, "mean")),
        ({"stride": 1}, (6, 1, "mean")),
        ({"width": 9, "stride": 2, "baseline": "zero"}, (9, 2, "zero")),
    ],
    ids=str,
)
def test_windows_change_what_is_named(asked, expected):
    """Without a stride, windows of another width overlap by half."""
    plan = PlanOverrides(**asked).apply(default_plan(96))

    assert (plan.width, plan.stride, plan.baseline) == expected


def test_a_teacher_that_is_a_file_of_logits_leaves_the_student_alone(run, recipe, data, tmp_path):
    """Nobody can ask it about perturbed series; as the other model it is refused."""
    folder = tmp_path / "run"
    shutil.copytree(run, folder)
    source = tmp_path / "logits.npz"
    rng = np.random.default_rng(0)
    sizes = {"train": len(data.train.x) + len(data.validation.x), "test": len(data.test.x)}
    np.savez(source, **{name: rng.normal(size=(n, 2)) for name, n in sizes.items()})
    facts = read_json(folder / "teacher" / "teacher.json")
    write_json(folder / "teacher" / "teacher.json", {**facts, "source": str(source)})
    teacher = recipe.teacher.model_copy(update={"source": str(source)})

    subject = open_input(folder, 0, recipe=recipe.model_copy(update={"teacher": teacher}))

    assert _whos(subject) == ["student"]
    assert "file of logits" in subject.notes[0]


def test_a_brought_teacher_is_not_in_its_folder(run, recipe, tmp_path):
    """`train --teacher` keeps answers, not the model."""
    folder = tmp_path / "teacher"
    folder.mkdir()
    write_json(
        folder / "teacher.json", {**read_json(run / "teacher" / "teacher.json"), "name": "x.onnx"}
    )

    with pytest.raises(UsageError, match=r"answers of x\.onnx, which was brought"):
        open_input(folder, 0, recipe=recipe)


@pytest.mark.parametrize("index", [-1, 8])
def test_a_series_that_is_not_there_is_told(run, recipe, index):
    """With how many there are, from 0."""
    with pytest.raises(UsageError, match=rf"no series {index}: 8 golden .* Choose 0 to 7"):
        open_input(run / "result" / "bundle.zip", index)
    with pytest.raises(UsageError, match="no series 999: 30 test series in ItalyPowerDemand"):
        open_input(run, 999, recipe=recipe)


def test_what_is_no_model_is_told(run, recipe, tmp_path):
    """A path that leads nowhere, a folder of another stage, and a missing --data."""
    with pytest.raises(UsageError, match=r"There is no .*none\.onnx"):
        open_input(tmp_path / "none.onnx", 0, recipe=recipe)
    with pytest.raises(UsageError, match=r"model is nothing that can be explained"):
        open_input(run / "model", 0, recipe=recipe)
    with pytest.raises(UsageError, match="Name the data whose test series"):
        open_input(run / "student", 0)


def test_a_plan_of_other_series_is_refused(run, tmp_path):
    """The run's plan is of its own length."""
    longer = config.parse("data: {train: ItalyPowerDemand, limit_per_class: 15, length: 30}")
    shutil.copytree(run, tmp_path / "run")
    for name in ("teacher", "student"):
        facts = read_json(run / name / "model.json")
        write_json(tmp_path / "run" / name / "model.json", {**facts, "length": 30})

    with pytest.raises(ShapeError, match=r"plan is of series of 24 steps; these have 30"):
        open_input(tmp_path / "run", 0, recipe=longer)


def _named(spec, data, **changes):
    given = {"weights": None, "trust": False, **changes}
    return named_teacher(str(spec), data.class_names, data.train.x, **given)


def test_a_network_answers_and_has_gradients(run, data):
    """Under the name of its folder."""
    voice = explained_model("student", network_of(run / "student", data.class_names, data.test.x))

    assert (voice.role, voice.name) == ("student", "student")
    assert voice.network is not None
    assert voice.classifier.logits(data.test.x).shape == (len(data.test.x), 2)


def test_a_folder_and_a_file_name_a_teacher(run, data):
    """Only the folder's network has gradients."""
    folder, file = (_named(run / place, data) for place in ("teacher", "model/student.onnx"))

    assert (folder.role, file.role) == ("teacher", "teacher")
    assert folder.network is not None
    assert file.network is None


def test_weights_of_another_teacher_are_left_alone(run, data):
    """A run's own factory may have some; the file named instead brings its own."""
    voice = _named(run / "model" / "student.onnx", data, weights="run.safetensors")

    assert voice.classifier.logits(data.test.x).shape == (len(data.test.x), 2)


def test_a_file_of_logits_is_refused(data, tmp_path):
    """It has nothing to say of covered windows."""
    source = tmp_path / "logits.npz"
    np.savez(source, train=np.random.default_rng(0).normal(size=(len(data.train.x), 2)))

    with pytest.raises(UsageError, match=r"logits\.npz is a file of logits"):
        _named(source, data)


def test_a_missing_file_is_told(data):
    """As `train` tells it."""
    with pytest.raises(ModelError, match=r"There is no file none\.onnx"):
        _named("none.onnx", data)


def test_a_network_of_other_series_is_refused(run):
    """A convolutional network would answer for any length; its own and the found one are named."""
    shorter = prepare_data(
        config.parse("data: {train: ItalyPowerDemand, limit_per_class: 15, length: 20}")
    )

    for ask in (
        lambda: network_of(run / "student", shorter.class_names, shorter.test.x),
        lambda: _named(run / "teacher", shorter),
    ):
        with pytest.raises(ShapeError, match=r"1 channels, 24 steps and 2 classes; .* 1, 20 and 2"):
            ask()
