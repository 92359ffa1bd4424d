"""The file of a student and the map it predicts, run in ONNX Runtime and held against torch."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn

from edgedistill.errors import DataError, ModelError, VerificationError
from edgedistill.export.predicted_map import EXPLANATION, export_explanation
from edgedistill.models import ModelSpec, SelfExplainingNetwork, build

pytestmark = pytest.mark.slow


def explained(family: str = "fcn") -> SelfExplainingNetwork:
    torch.manual_seed(0)
    spec = ModelSpec(family=family, width=4, explained=True)
    model = build(spec, channels=2, classes=3, length=21)
    assert isinstance(model, SelfExplainingNetwork)
    return model


@pytest.fixture
def series(rng) -> np.ndarray:
    return rng.normal(size=(4, 2, 21)).astype(np.float32)


@pytest.mark.parametrize("family", ["fcn", "lstm", "lite"])
def test_the_file_gives_logits_and_map(family, series, tmp_path):
    """For any number of series, one included."""
    model, path = explained(family).train(), tmp_path / "explanation.onnx"

    facts = export_explanation(model, path, series)

    assert model.training
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    assert [o.name for o in session.get_outputs()] == ["logits", EXPLANATION]
    assert session.get_outputs()[1].shape == ["batch", 21]
    with torch.no_grad():
        expected = model.eval().explain(torch.from_numpy(series))
    for count in (1, 3, 4):
        found = session.run(None, {"series": series[:count]})
        for mine, right in zip(found, expected, strict=True):
            np.testing.assert_allclose(mine, right[:count].numpy(), atol=1e-5)
    assert facts.size_bytes == path.stat().st_size
    assert max(facts.max_abs_error, facts.max_abs_error_logits) < 1e-5


class Drifting(nn.Module):
    """Gives something else when it is traced for a file than when it is run."""

    def forward(self, x):
        return x + (1e-3 if torch.compiler.is_compiling() else 0.0)


@pytest.mark.parametrize("what", ["map", "logits"])
def test_a_miss_leaves_no_file(what, series, tmp_path):
    model = explained()
    if what == "map":
        model.refined.append(Drifting())
    else:
        model.network.set_submodule("head", Drifting())

    with pytest.raises(VerificationError, match=f"misses the {what} it must give by") as caught:
        export_explanation(model, tmp_path / "explanation.onnx", series)

    assert caught.value.exit_code == 4
    assert list(tmp_path.iterdir()) == []


def test_tolerance_is_what_decides(series, tmp_path):
    model = explained()
    model.refined.append(Drifting())

    facts = export_explanation(model, tmp_path / "explanation.onnx", series, tolerance=1e-2)

    assert facts.max_abs_error == pytest.approx(1e-3, rel=0.01)


def test_what_cannot_be_exported_is_refused(series, tmp_path):
    """Each with its own error, before anything is written."""
    path, broken = tmp_path / "explanation.onnx", explained()
    nn.init.constant_(broken.refined[-1].bias, float("inf"))

    with pytest.raises(DataError, match="at least one series"):
        export_explanation(explained(), path, series[:0])
    with pytest.raises(ModelError, match="does not take series of shape"):
        export_explanation(explained(), path, series[:, :1])
    with pytest.raises(ModelError, match=r"predicts maps of which \d+ values are not finite"):
        export_explanation(broken, path, series)
    assert list(tmp_path.iterdir()) == []
