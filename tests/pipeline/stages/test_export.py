"""From a torch student to verified files."""

from __future__ import annotations

import json

import numpy as np
import pytest

from edgedistill.optimize.execution import logits
from edgedistill.pipeline.run_folder import EXPORT_FACTS, ONNX
from edgedistill.pipeline.stages.export import EXPLAINER, export_student
from edgedistill.pipeline.stages.teacher import perturbation_plan
from edgedistill.teachers import TorchClassifier
from edgedistill.training import networks

pytestmark = pytest.mark.slow


def test_the_export_computes_what_torch_computes(data, stages):
    model, _ = networks.open_network(stages / "student")

    found = logits(stages / "model" / ONNX, data.test.x)

    expected = TorchClassifier(model, classes=2, name="student").logits(data.test.x)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert json.loads((stages / "model" / EXPORT_FACTS).read_text())


def test_export_reports_start_and_end(data, stages, tmp_path):
    heard = []

    export_student(data, stages / "student", tmp_path, lambda *told: heard.append(told))

    assert heard == [("export", 0, 1), ("export", 1, 1)]


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
