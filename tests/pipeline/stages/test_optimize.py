"""The variant stage whole: what it collects once, it does not collect again."""

from __future__ import annotations

import pytest

from edgedistill.optimize.quantization import calibration
from edgedistill.optimize.quantization.calibration import observe
from edgedistill.pipeline.run_folder import ONNX
from edgedistill.pipeline.stages.optimize import CALIBRATION, optimize
from edgedistill.recipe.schema import NodeSearchSection


@pytest.fixture
def asked(monkeypatch):
    """How often a model was really run to see its values."""
    found = []

    def counted(model, series):
        found.append(len(series))
        return observe(model, series)

    monkeypatch.setattr(calibration, "observe", counted)
    return found


def test_ranges_outlive_the_stage(recipe, data, stages, asked, tmp_path):
    """A second run reads what the first one saw, and so does a search for the same model."""
    section = recipe.optimize.model_copy(update={"search": NodeSearchSection(budget_s=0.001)})
    searching = recipe.model_copy(update={"optimize": section})
    written = []
    for name, asks, teacher in (
        ("first", recipe, None),
        ("second", recipe, None),
        ("searched", searching, stages / "teacher"),
    ):
        out, work = tmp_path / name, tmp_path / ".work" / name
        out.mkdir()
        work.mkdir(parents=True)
        optimize(asks, data, teacher, stages / "model" / ONNX, out, work)
        written.append((out / "ort-int8.onnx").read_bytes())

    assert len(asked) == len(list((tmp_path / ".work" / CALIBRATION).iterdir())) == 1
    assert written[0] == written[1] == written[2]
    assert (tmp_path / "searched" / "search.json").exists()
