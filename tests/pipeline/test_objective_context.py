"""Other teachers: opened from what a recipe names, and refused where they do not fit."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

from edgedistill.errors import ModelError, UsageError
from edgedistill.io.files import read_json
from edgedistill.io.progress import ignore_progress
from edgedistill.pipeline import single_stage as one_stage
from edgedistill.pipeline.objective_context import open_source
from edgedistill.pipeline.stages.teacher import open_teacher
from edgedistill.recipe import recipe as config
from edgedistill.training import networks


def test_folder_of_train_is_opened(recipe, data, stages):
    source = str(stages / "teacher")

    found = open_source(source, recipe=recipe, data=data, trust=False)

    own = open_teacher(recipe, data, stages / "teacher")
    np.testing.assert_array_equal(found.logits(data.test.x), own.logits(data.test.x))
    assert found.name == source


def test_file_of_a_teacher_is_opened(recipe, data, stages):
    """Another source than the recipe's own teacher, which stays what it is."""
    found = open_source(
        str(stages / "model" / "student.onnx"), recipe=recipe, data=data, trust=False
    )

    model, _ = networks.open_network(stages / "student")
    expected = open_source(str(stages / "student"), recipe=recipe, data=data, trust=False)
    np.testing.assert_allclose(
        found.logits(data.validation.x), expected.logits(data.validation.x), atol=1e-5
    )
    assert recipe.teacher.source is None
    assert not model.training


@pytest.mark.parametrize(("what", "count"), [("classes", 3), ("channels", 2)])
def test_network_of_other_data_is_refused(recipe, data, stages, tmp_path, what, count):
    shutil.copytree(stages / "teacher", tmp_path / "other")
    facts = json.loads((tmp_path / "other" / networks.FACTS).read_text())
    sizes = {key: facts[key] for key in ("channels", "classes", "length")} | {what: count}
    model = networks.build(networks.ModelSpec(**facts["spec"]), **sizes)
    weights = networks.serialized(model.state_dict())
    (tmp_path / "other" / networks.WEIGHTS).write_bytes(weights)
    (tmp_path / "other" / networks.FACTS).write_text(json.dumps(facts | sizes))

    with pytest.raises(
        ModelError, match=rf"knows .*{count} {what}.* set has 2 classes and 1 channels"
    ):
        open_source(str(tmp_path / "other"), recipe=recipe, data=data, trust=False)


def test_unreadable_source_is_refused(recipe, data, tmp_path):
    with pytest.raises(ModelError, match="does not hold a network of ours"):
        open_source(str(tmp_path), recipe=recipe, data=data, trust=False)
    with pytest.raises(ModelError, match=r"There is no file .*gone\.onnx"):
        open_source("gone.onnx", recipe=recipe, data=data, trust=False)
    with pytest.raises(UsageError, match="names no teacher"):
        open_source("nothing", recipe=recipe, data=data, trust=False)


def test_joblib_file_needs_trust(recipe, data, tmp_path):
    path = tmp_path / "other.joblib"
    path.write_bytes(b"no estimator")

    with pytest.raises(UsageError, match="runs whatever code it contains"):
        open_source(str(path), recipe=recipe, data=data, trust=False)
    with pytest.raises(ModelError, match="Cannot load"):
        open_source(str(path), recipe=recipe, data=data, trust=True)


def test_other_teacher_file_changes_the_key_of_the_student(recipe, stages, tmp_path):
    """What it is known by changes with the file, though the recipe names the same one."""
    second = tmp_path / "second.onnx"
    term = f"{{name: ensemble, sources: [{second}]}}"
    settings = [f"student.objectives=[{term}]", "student.training.epochs=1"]
    changed = config.parse(config.dump(recipe), settings)
    keys = []

    for name in ("model/student.onnx", "variants/ort-int8.onnx", "model/student.onnx"):
        shutil.copyfile(stages / name, second)
        one_stage.distill(changed, stages / "teacher", tmp_path / "out", ignore_progress)
        keys.append(read_json(tmp_path / "out" / "stage.json")["key"])

    assert keys[0] == keys[2] != keys[1]
