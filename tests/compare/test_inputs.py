"""Two models and their common series, from two paths."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

from edgedistill.bundle.reader import open_bundle
from edgedistill.compare.comparison import compare
from edgedistill.compare.inputs import open_comparison
from edgedistill.errors import IntegrityError, MachineError, ModelError, ShapeError, UsageError
from edgedistill.io.files import read_json
from edgedistill.pipeline.stages.data import prepare_data
from edgedistill.recipe import recipe as config
from edgedistill.runtimes.instructions import instruction_set
from edgedistill.runtimes.tensorrt.engine_cache import FACTS, FORMAT, PLAN

pytestmark = pytest.mark.slow

SATURATES = instruction_set().saturates


@pytest.fixture(scope="module")
def data(recipe):
    return prepare_data(recipe)


@pytest.mark.parametrize("first", [".", "student", "teacher", "variants/ort-fp32.onnx"])
def test_files_and_folders_are_opened_with_layers(run, recipe, data, first):
    """A run stands for its student; torch networks are exported for their layers."""
    with open_comparison(run / first, run / "model" / "student.onnx", recipe=recipe) as found:
        pair = found.first, found.second

        assert all(side.network is not None for side in pair)
        assert all(
            side.classifier.logits(found.series).shape == (len(data.test.y), 2) for side in pair
        )
        assert (found.first.classifier.changes is not None) == (not first.endswith(".onnx"))

    assert [side.name for side in pair] == [str(run / first), str(run / "model" / "student.onnx")]
    assert found.origin == "30 test series of ItalyPowerDemand"
    assert found.plan.length == 24
    np.testing.assert_array_equal(found.series, data.test.x)


def test_plan_of_a_run_is_used(run, recipe):
    """The maps of its teacher are under it."""
    plan = read_json(run / "teacher" / "teacher.json")["plan"]

    with open_comparison(run, run / "model" / "student.onnx", recipe=recipe) as found:
        assert found.plan.to_dict() == plan


def test_an_exported_student_is_alike(run, recipe):
    """Torch against the file, through all that a comparison does."""
    with open_comparison(run, run / "model" / "student.onnx", recipe=recipe) as found:
        result = compare(found.first, found.second, found.series, found.plan)

    assert result.alike
    assert len(result.layers) > 3
    assert result.first is None


def test_a_bundle_brings_golden_series(run):
    """Its chosen model, or the one that is named; no data are needed."""
    path = run / "result" / "bundle.zip"

    with open_comparison(path, path, models=(None, "ort-fp32")) as found:
        result = compare(found.first, found.second, found.series, found.plan)

    with open_bundle(path) as bundle:
        np.testing.assert_array_equal(found.series, bundle.golden().series)
        assert found.plan == bundle.plan
    assert found.origin.startswith("8 golden series of ")
    assert found.second.name == f"{path}, ort-fp32"
    assert result.alike
    assert result.layers != ()


def test_a_bundle_prepares_other_series_itself(run, recipe, data):
    """The other model, whatever it is, gets the same series."""
    with open_comparison(run / "student", run / "result" / "bundle.zip", recipe=recipe) as found:
        assert found.origin == "30 test series of ItalyPowerDemand"

    np.testing.assert_allclose(found.series, data.test.x, rtol=1e-6)


def test_few_series_are_taken_from_everywhere(run, recipe, data):
    """Sets are often sorted by class."""
    onnx = run / "model" / "student.onnx"

    with open_comparison(onnx, onnx, recipe=recipe, count=3) as found:
        assert found.origin == "3 test series of ItalyPowerDemand"

    np.testing.assert_array_equal(found.series, data.test.x[[0, 14, 29]])


@pytest.mark.parametrize(
    ("first", "options", "error", "says"),
    [
        ("none.onnx", {}, UsageError, r"There is no .*none\.onnx"),
        ("data", {}, UsageError, "data is nothing that can be compared. Name an .onnx file"),
        ("model/student.onnx", {"models": ("x", None)}, UsageError, "no bundle, so it has no mod"),
        ("result/bundle.zip", {"models": ("x", None)}, UsageError, "holds no model 'x'"),
        ("model/student.onnx", {"count": 0}, UsageError, "Got 0 series"),
        ("cut.onnx", {}, ModelError, "cut short"),
    ],
)
def test_path_that_cannot_be_opened_is_refused(run, recipe, tmp_path, first, options, error, says):
    """Each with a next step."""
    (tmp_path / "data").mkdir()
    (tmp_path / "cut.onnx").write_bytes((run / "model" / "student.onnx").read_bytes()[:500])
    path = run / first if (run / first).is_file() else tmp_path / first

    with (
        pytest.raises(error, match=says),
        open_comparison(path, run / "model" / "student.onnx", recipe=recipe, **options),
    ):
        pass


def test_files_need_data(run):
    """Random series would be no comparison."""
    path = run / "model" / "student.onnx"

    with pytest.raises(UsageError, match="Name the data whose"), open_comparison(path, path):
        pass


def test_models_of_other_series_are_refused(run):
    """A network has its shape on record, a file its input."""
    recipe = config.parse("data: {train: ItalyPowerDemand, limit_per_class: 15, length: 20}")
    path = run / "model" / "student.onnx"

    with (
        pytest.raises(ShapeError, match=r"1 channels, 24 steps and 2 classes; .* 1, 20 and 2"),
        open_comparison(run / "student", path, recipe=recipe),
    ):
        pass
    with (
        open_comparison(path, path, recipe=recipe) as found,
        pytest.raises(ShapeError, match=r"takes series of \(C, T\) \(1, 24\); these are \(1, 20\)"),
    ):
        compare(found.first, found.second, found.series, found.plan)


def test_tampered_bundle_is_refused(run, recipe, tmp_path):
    """Nor is the model beside it."""
    path = tmp_path / "bundle.zip"
    path.write_bytes((run / "result" / "bundle.zip").read_bytes()[:800])

    with pytest.raises(IntegrityError), open_comparison(path, run, recipe=recipe):
        pass


def test_an_engine_needs_its_board(run, recipe, tmp_path):
    """The message names TensorRT or the GPU; the facts are read before."""
    facts = {
        "format": FORMAT,
        "sha256": "0" * 64,
        "model": "trt-fp16.onnx",
        "model_sha256": "0" * 64,
        "place": {
            "library": "tensorrt",
            "version": "10.3.0",
            "gpu": "Orin",
            "compute_capability": "8.7",
            "multiprocessors": 8,
            "power_mode": "",
        },
        "options": {},
        "gpu_fallback": [],
        "warnings": [],
    }
    (tmp_path / FACTS).write_text(json.dumps(facts))
    (tmp_path / PLAN).write_bytes(b"plan")

    with (
        pytest.raises((MachineError, IntegrityError)),
        open_comparison(run, tmp_path / PLAN, recipe=recipe),
    ):
        pass


def test_model_for_tensorrt_is_emulated(run, recipe, tmp_path):
    """Without TensorRT here; an engine has a path of its own."""
    folder = tmp_path / "bundle"
    with open_bundle(run / "result" / "bundle.zip") as bundle:
        shutil.copytree(bundle.root, folder)
    facts = read_json(folder / "manifest.json")
    for model in facts["models"]:
        model["runtime"] = "tensorrt"
    (folder / "manifest.json").write_text(json.dumps(facts))

    with open_comparison(run, folder, recipe=recipe) as found:
        assert found.second.network is not None
        assert found.second.classifier is found.second.network


def test_an_ort_file_is_compared_as_a_board_computes(run, saturating_bundle, tmp_path):
    """Its own graph saturates on x86 without VNNI; its ONNX file in the bundle does not."""
    path = saturating_bundle(run / "result" / "bundle.zip", tmp_path / "bundle")

    with open_comparison(path, path, models=("ort-int8", "ort-int8-ort")) as found:
        expected, actual = (s.classifier.logits(found.series) for s in (found.first, found.second))

    np.testing.assert_array_equal(actual, expected)
    assert found.second.name == f"{path}, ort-int8-ort"


def test_an_ort_file_alone_is_named_where_it_saturates(run, saturating_bundle, tmp_path):
    path = saturating_bundle(run / "result" / "bundle.zip", tmp_path / "bundle", ("ort",))

    with open_comparison(path, path) as found:
        name = found.first.name

    assert name.endswith("saturates on this processor, unlike a board's)") == SATURATES
