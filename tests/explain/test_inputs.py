"""A series, models and a plan, from a path and a recipe; misfits are refused."""

from __future__ import annotations

import shutil

import joblib
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from edgedistill.bundle.reader import open_bundle
from edgedistill.errors import ModelError, ShapeError, UsageError
from edgedistill.explain import ExplainedModel, PlanOverrides, RecordedExplanation, open_input
from edgedistill.explain.inputs import explained_model, named_teacher
from edgedistill.io.archives import unpack
from edgedistill.io.files import read_json, write_json
from edgedistill.pipeline.stages.data import prepare_data
from edgedistill.recipe import recipe as config
from edgedistill.recipe.schema import TeacherSection
from edgedistill.runtimes.instructions import instruction_set
from edgedistill.runtimes.onnxruntime import OrtRuntime
from edgedistill.saliency.perturbation import default_plan
from edgedistill.training.networks import open_classifier


@pytest.fixture(scope="module")
def data(recipe):
    return prepare_data(recipe)


def _roles(input_):
    return [model.role for model in input_.models]


def test_a_run_brings_teacher_student_and_plan(run, recipe, data):
    """Both are networks with gradients; the series is of the test split."""
    input_ = open_input(run, 3, recipe=recipe)

    assert _roles(input_) == ["teacher", "student"]
    assert all(isinstance(v, ExplainedModel) and v.network is not None for v in input_.models)
    np.testing.assert_array_equal(input_.series, data.test.x[3:4])
    assert input_.label == data.class_names[data.test.y[3]]
    assert input_.origin == "test series 3 of ItalyPowerDemand"
    assert input_.plan.to_dict() == read_json(run / "teacher" / "teacher.json")["plan"]


@pytest.mark.parametrize(
    ("place", "roles"),
    [("teacher", ["teacher"]), ("student", ["student"]), ("model/student.onnx", ["model"])],
)
def test_a_part_of_a_run_stands_alone(run, recipe, place, roles):
    """The teacher's folder, the student's, an exported file."""
    assert _roles(open_input(run / place, 0, recipe=recipe)) == roles


@pytest.mark.parametrize("place", ["student", "model/student.onnx", "teacher", "."])
@pytest.mark.parametrize("teacher", ["teacher", "variants/ort-fp32.onnx"])
def test_a_teacher_stands_first(run, recipe, place, teacher):
    """A folder that `train` wrote, or anything that `train` takes."""
    input_ = open_input(run / place, 0, recipe=recipe, teacher=str(run / teacher))

    assert _roles(input_) == ["teacher", "student"]
    assert teacher.rpartition("/")[2] in input_.models[0].name


def test_bundle_has_golden_series_and_recorded_maps(run):
    """The teacher is recorded; only the model runs."""
    path = run / "result" / "bundle.zip"

    input_ = open_input(path, 5)

    with open_bundle(path) as bundle:
        golden = bundle.golden()
        assert input_.plan == bundle.plan
    teacher, student = input_.models
    assert isinstance(teacher, RecordedExplanation)
    np.testing.assert_array_equal(teacher.explanation.signed, golden.teacher.signed[5:6])
    np.testing.assert_array_equal(input_.series, golden.series[5:6])
    assert isinstance(student, ExplainedModel)
    np.testing.assert_allclose(
        student.classifier.logits(input_.series), golden.student.logits[5:6], rtol=1e-4, atol=1e-4
    )


def test_an_unpacked_bundle_is_a_bundle(run, tmp_path):
    """A folder with a manifest."""
    unpack(run / "result" / "bundle.zip", tmp_path / "bundle")

    assert _roles(open_input(tmp_path / "bundle", 0)) == ["teacher", "student"]


def test_an_ort_file_is_explained_as_a_board_computes(run, saturating_bundle, tmp_path):
    """Its own graph saturates on x86 without VNNI; its ONNX file in the bundle does not."""
    path = saturating_bundle(run / "result" / "bundle.zip", tmp_path / "bundle")

    input_ = open_input(path, 0)

    expected = OrtRuntime(path / "models" / "ort-int8.onnx").logits(input_.series)
    np.testing.assert_array_equal(input_.models[1].classifier.logits(input_.series), expected)
    assert input_.notes == ()


def test_an_ort_file_alone_is_explained_with_a_note_where_it_saturates(
    run, saturating_bundle, tmp_path
):
    path = saturating_bundle(run / "result" / "bundle.zip", tmp_path / "bundle", ("ort",))

    notes = open_input(path, 0).notes

    saturates = instruction_set().saturates
    assert [n.startswith("The .ort file computes INT8") for n in notes] == [True] * saturates


def test_a_bundle_prepares_other_series_itself(run, recipe, data):
    """With data, the index counts their test series, which have no recorded maps."""
    input_ = open_input(run / "result" / "bundle.zip", 3, recipe=recipe)

    np.testing.assert_allclose(input_.series, data.test.x[3:4], rtol=1e-6)
    assert input_.label == data.class_names[data.test.y[3]]
    assert _roles(input_) == ["student"]
    assert "Name the teacher with --teacher" in input_.notes[0]


def test_recorded_maps_are_not_used_under_another_plan(run):
    """Their windows are others."""
    input_ = open_input(run / "result" / "bundle.zip", 0, windows=PlanOverrides(width=5))

    assert _roles(input_) == ["student"]
    assert input_.plan.width == 5
    assert "under its own plan only" in input_.notes[0]


def test_named_teacher_replaces_the_recorded_one(run):
    """It runs, so under any plan."""
    input_ = open_input(
        run / "result" / "bundle.zip",
        0,
        teacher=str(run / "teacher"),
        windows=PlanOverrides(width=5),
    )

    assert _roles(input_) == ["teacher", "student"]
    assert isinstance(input_.models[0], ExplainedModel)


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
def test_overrides_change_only_named_values(asked, expected):
    """Without a stride, windows of another width overlap by half."""
    plan = PlanOverrides(**asked).apply(default_plan(96))

    assert (plan.width, plan.stride, plan.baseline) == expected


def test_a_teacher_that_is_a_file_of_logits_leaves_the_student_alone(run, recipe, data, tmp_path):
    """It takes no perturbed series; as the named teacher it is refused."""
    folder = tmp_path / "run"
    shutil.copytree(run, folder)
    source = tmp_path / "logits.npz"
    rng = np.random.default_rng(0)
    sizes = {"train": len(data.train.x) + len(data.validation.x), "test": len(data.test.x)}
    np.savez(source, **{name: rng.normal(size=(n, 2)) for name, n in sizes.items()})
    facts = read_json(folder / "teacher" / "teacher.json")
    write_json(folder / "teacher" / "teacher.json", {**facts, "source": str(source)})
    teacher = recipe.teacher.model_copy(update={"source": str(source)})

    input_ = open_input(folder, 0, recipe=recipe.model_copy(update={"teacher": teacher}))

    assert _roles(input_) == ["student"]
    assert "file of logits" in input_.notes[0]


def test_a_brought_teacher_is_not_in_its_folder(run, recipe, tmp_path):
    """`train --teacher` writes logits and maps, not the model."""
    folder = tmp_path / "teacher"
    folder.mkdir()
    write_json(
        folder / "teacher.json", {**read_json(run / "teacher" / "teacher.json"), "name": "x.onnx"}
    )

    with pytest.raises(UsageError, match=r"answers of x\.onnx, which was brought"):
        open_input(folder, 0, recipe=recipe)


@pytest.mark.parametrize("index", [-1, 8])
def test_missing_series_is_refused(run, recipe, index):
    """With how many there are, from 0."""
    with pytest.raises(UsageError, match=rf"no series {index}: 8 golden .* Choose 0 to 7"):
        open_input(run / "result" / "bundle.zip", index)
    with pytest.raises(UsageError, match="no series 999: 30 test series in ItalyPowerDemand"):
        open_input(run, 999, recipe=recipe)


def test_path_without_a_model_is_refused(run, recipe, tmp_path):
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


def _named(spec, data, *, trust=False, **settings):
    section = TeacherSection(**settings)
    return named_teacher(str(spec), data.class_names, data.train, section, trust)


@pytest.mark.parametrize("index", [0, 1])
def test_teacher_in_another_order_is_refused_until_its_columns_are_named(data, tmp_path, index):
    """Fitted on 0 and 1 for the classes, or for the classes the other way round."""
    path, order = tmp_path / "e.joblib", [data.class_names, data.class_names[::-1]][index]
    y = data.train.y if index == 0 else 1 - data.train.y
    joblib.dump(LogisticRegression().fit(data.train.x[:, 0], y), path)

    named = _named(path, data, trust=True, class_names=order)

    hits = named.classifier.logits(data.test.x).argmax(axis=1) == data.test.y
    assert hits.mean() > 0.7
    if index == 1:
        with pytest.raises(ModelError, match=r'Write teacher\.class_names: \["2", "1"\]'):
            _named(path, data, trust=True)


def test_network_has_logits_and_gradients(run, data):
    """Under the name of its folder."""
    model = explained_model(
        "student", open_classifier(run / "student", data.class_names, data.test.x)
    )

    assert (model.role, model.name) == ("student", "student")
    assert model.network is not None
    assert model.classifier.logits(data.test.x).shape == (len(data.test.x), 2)


def test_a_folder_and_a_file_name_a_teacher(run, data):
    """Only the folder's network has gradients."""
    folder, file = (_named(run / place, data) for place in ("teacher", "model/student.onnx"))

    assert (folder.role, file.role) == ("teacher", "teacher")
    assert folder.network is not None
    assert file.network is None


def test_weights_of_another_teacher_are_ignored(run, data):
    """A run's own factory may have some; the file named instead brings its own."""
    model = _named(run / "model" / "student.onnx", data, weights="run.safetensors")

    assert model.classifier.logits(data.test.x).shape == (len(data.test.x), 2)


def test_a_file_of_logits_is_refused(data, tmp_path):
    """It has no logits of perturbed series."""
    source = tmp_path / "logits.npz"
    np.savez(source, train=np.random.default_rng(0).normal(size=(len(data.train.x), 2)))

    with pytest.raises(UsageError, match=r"logits\.npz is a file of logits"):
        _named(source, data)


def test_missing_file_is_refused(data):
    """As by `train`."""
    with pytest.raises(ModelError, match=r"There is no file none\.onnx"):
        _named("none.onnx", data)


def test_a_network_of_other_series_is_refused(run):
    """A convolutional network runs at any length; the message names both."""
    shorter = prepare_data(
        config.parse("data: {train: ItalyPowerDemand, limit_per_class: 15, length: 20}")
    )

    for ask in (
        lambda: open_classifier(run / "student", shorter.class_names, shorter.test.x),
        lambda: _named(run / "teacher", shorter),
    ):
        with pytest.raises(ShapeError, match=r"1 channels, 24 steps and 2 classes; .* 1, 20 and 2"):
            ask()
