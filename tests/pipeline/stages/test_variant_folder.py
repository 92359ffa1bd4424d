"""The .ort files of a variant stage, and what its list says of them."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

from edgedistill.errors import ConfigError, ModelError
from edgedistill.optimize.ort_format import CONFIG
from edgedistill.optimize.variant_folder import VARIANTS, add_formats, open_variants
from edgedistill.pipeline.stages.evaluate import evaluate_all
from edgedistill.recipe import recipe as config
from edgedistill.runtimes.onnxruntime import OrtRuntime

pytestmark = pytest.mark.slow


def asking(recipe, *formats, **changes):
    """Return the recipe with other formats."""
    section = recipe.optimize.model_copy(update={"formats": formats, **changes})
    return recipe.model_copy(update={"optimize": section})


@pytest.mark.parametrize("text", [None, "[]", "{}", '{"variants": [{"name": "ort-fp32"}]}', "{"])
def test_a_folder_without_variants(tmp_path, text):
    if text is not None:
        (tmp_path / VARIANTS).write_text(text)

    with pytest.raises(ModelError, match=r"does not hold variants .* Run `edgedistill optimize`"):
        open_variants(tmp_path)


@pytest.fixture
def folder(stages, tmp_path):
    """A copy of the variants in FP32 and INT8."""
    return shutil.copytree(stages / "variants", tmp_path / "variants")


def test_every_variant_gets_a_file_of_its_own(recipe, data, folder):
    """Listed beside its ONNX file, with its size, and the operators that it needs."""
    add_formats(folder, ["onnx", "ort"], data.train.x)

    models = {model.name: model for model in open_variants(folder)}
    assert list(models) == ["ort-fp32", "ort-fp32-ort", "ort-int8", "ort-int8-ort"]
    assert models["ort-int8-ort"].precision == "int8"
    for entry in json.loads((folder / VARIANTS).read_text())["variants"]:
        assert entry["size_bytes"] == (folder / entry["path"]).stat().st_size
    for precision in ("fp32", "int8"):
        expected, actual = (
            OrtRuntime(models[f"ort-{precision}{end}"].path, exact_int8=False).logits(data.test.x)
            for end in ("", "-ort")
        )
        np.testing.assert_allclose(actual, expected, atol=1e-5)
        assert (folder / f"ort-{precision}{CONFIG}").exists()


def test_onnx_may_be_left_out_of_the_choice(recipe, data, folder):
    """A small build cannot load it; the file stays, to be compared with."""
    add_formats(folder, ["ort"], data.train.x)

    assert [model.name for model in open_variants(folder)] == ["ort-fp32-ort", "ort-int8-ort"]
    assert (folder / "ort-int8.onnx").exists()


def test_models_of_other_runtimes_and_half_precision_stay_as_they_are(recipe, data, folder):
    """The one has no such format, the other would be stored in float32."""
    listed = json.loads((folder / VARIANTS).read_text())
    listed["variants"][0]["precision"] = "fp16"
    listed["variants"][1]["runtime"] = "tensorrt"
    (folder / VARIANTS).write_text(json.dumps(listed))

    add_formats(folder, ["onnx", "ort"], data.train.x)

    assert json.loads((folder / VARIANTS).read_text()) == listed
    assert not list(folder.glob("*.ort"))


def test_nothing_to_choose_from_is_refused(recipe, data, folder):
    """Half precision alone, and no ONNX: the message has two ways out."""
    listed = json.loads((folder / VARIANTS).read_text())
    listed["variants"] = [{**listed["variants"][0], "precision": "fp16"}]
    (folder / VARIANTS).write_text(json.dumps(listed))

    with pytest.raises(ConfigError, match=r"formats is ort, but no .ort file is made of fp16"):
        add_formats(folder, ["ort"], data.train.x)


def test_without_the_format_nothing_changes(recipe, data, folder):
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    add_formats(folder, recipe.optimize.formats, data.train.x)

    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_they_are_measured_and_chosen_like_the_others(recipe, data, stages, folder):
    """With .ort alone, one of them is what the contract judges."""
    only = asking(recipe, "ort")
    add_formats(folder, only.optimize.formats, data.train.x)

    outcome = evaluate_all(only, data, stages / "teacher", stages / "student", folder)

    assert outcome.chosen in {"ort-fp32-ort", "ort-int8-ort"}
    assert outcome.variants["ort-int8-ort"].size_bytes == (folder / "ort-int8.ort").stat().st_size


def test_an_unknown_format_is_a_fault_of_the_recipe():
    """Told with its key."""
    with pytest.raises(config.ConfigError, match=r"optimize.formats.0 is 'tflite'"):
        config.parse("optimize: {formats: [tflite]}")
