"""From a torch student to verified files."""

from __future__ import annotations

import json
from dataclasses import replace
from hashlib import sha256

import numpy as np
import onnx
import pytest

from edgedistill.data import Split
from edgedistill.errors import ModelError
from edgedistill.optimize.execution import logits
from edgedistill.pipeline import networks
from edgedistill.pipeline.run_folder import EXPORT_FACTS, ONNX
from edgedistill.pipeline.stages.export import (
    EXPLAINER,
    VARIANTS,
    calibration_series,
    export_student,
    make_variants,
    open_variants,
)
from edgedistill.pipeline.stages.teacher import perturbation_plan
from edgedistill.recipe import recipe as config
from edgedistill.teachers import TorchClassifier


def test_the_export_computes_what_torch_computes(data, stages):
    model, _ = networks.open_network(stages / "student")

    found = logits(stages / "model" / ONNX, data.test.x)

    expected = TorchClassifier(model, classes=2, name="student").logits(data.test.x)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert json.loads((stages / "model" / EXPORT_FACTS).read_text())


def test_the_variants_are_those_of_the_recipe(data, stages):
    models = open_variants(stages / "variants")

    assert [(m.name, m.precision) for m in models] == [("ort-fp32", "fp32"), ("ort-int8", "int8")]
    _, facts = networks.open_network(stages / "student")
    for model in models:
        assert logits(model.path, data.test.x).shape == (len(data.test.y), 2)
        assert 0 < model.parameters <= facts["cost"]["parameters"]  # batch norm is folded in
    listed = json.loads((stages / "variants" / VARIANTS).read_text())
    assert listed["calibration"] == {
        "series": len(data.train.y),
        "sha256": sha256(data.train.x.tobytes()).hexdigest(),
    }


def test_the_runtimes_and_the_batch_are_those_of_the_recipe(recipe, data, stages, tmp_path):
    """Every runtime gets its files, and TensorRT's take the batch that is asked for."""
    both = config.parse(
        config.dump(recipe),
        [
            "optimize.runtimes=[tensorrt, onnxruntime]",
            "optimize.precisions=[bf16, int8]",
            "optimize.batch=2",
        ],
    )

    make_variants(both, data, stages / "model" / ONNX, tmp_path)

    models = open_variants(tmp_path)
    assert [(m.name, m.runtime) for m in models] == [
        *(("trt-bf16", "tensorrt"), ("trt-int8", "tensorrt"), ("ort-int8", "onnxruntime"))
    ]
    inputs = [onnx.load(m.path).graph.input[0].type.tensor_type.shape.dim[0] for m in models]
    assert [dim.dim_value for dim in inputs] == [2, 2, 0]


@pytest.mark.parametrize("text", [None, "[]", "{}", '{"variants": [{"name": "ort-fp32"}]}', "{"])
def test_a_folder_without_variants(tmp_path, text):
    if text is not None:
        (tmp_path / VARIANTS).write_text(text)

    with pytest.raises(ModelError, match=r"does not hold variants .* Run `edgedistill optimize`"):
        open_variants(tmp_path)


def test_a_stage_tells_when_it_starts_and_ends(recipe, data, stages, tmp_path):
    heard = []

    export_student(data, stages / "student", tmp_path, lambda *told: heard.append(told))
    make_variants(recipe, data, tmp_path / ONNX, tmp_path, lambda *told: heard.append(told))

    assert heard == [("export", 0, 1), ("export", 1, 1), ("optimize", 0, 1), ("optimize", 1, 1)]


def test_saliency_is_a_second_file_with_the_plan_of_the_recipe(recipe, data, stages, tmp_path):
    """Beside an unchanged `student.onnx`, and its facts beside the student's."""
    plan = perturbation_plan(recipe, data.length)
    heard = []

    export_student(data, stages / "student", tmp_path, lambda *told: heard.append(told), plan=plan)

    assert heard == [("export", 0, 2), ("export", 1, 2), ("export", 2, 2)]
    assert (tmp_path / ONNX).read_bytes() == (stages / "model" / ONNX).read_bytes()
    facts = json.loads((tmp_path / EXPORT_FACTS).read_text())
    assert facts[EXPLAINER]["windows"] == len(plan.starts)
    assert facts[EXPLAINER]["size_bytes"] == (tmp_path / EXPLAINER).stat().st_size
    assert not (stages / "model" / EXPLAINER).exists()  # only if it is asked for


def test_calibration_takes_training_series_class_by_class(data, rng):
    """In proportion, the same ones every time, and never more than there are."""
    labels = np.repeat([0, 1], [90, 30])
    many = replace(data, train=Split(x=rng.normal(size=(120, 1, 4)).astype(np.float32), y=labels))

    found = calibration_series(many, 40, seed=0)

    rows = [int(np.flatnonzero((many.train.x == one).all(axis=(1, 2)))[0]) for one in found]
    assert np.bincount(labels[rows]).tolist() == [30, 10]
    assert len(set(rows)) == 40
    np.testing.assert_array_equal(found, calibration_series(many, 40, seed=0))
    np.testing.assert_array_equal(calibration_series(many, 120, seed=0), many.train.x)
