"""One file gives logits and the saliency map that the library gives, or it is not there."""

from __future__ import annotations

import json

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from aeon.datasets import load_basic_motions
from torch import nn

from edgedistill.errors import DataError, ModelError, ShapeError, VerificationError
from edgedistill.export import explainer
from edgedistill.export.explainer import METADATA, export_explainer
from edgedistill.models import ModelSpec, build
from edgedistill.optimize.passes.opset import OPSET
from edgedistill.saliency.occlusion import explain, time_map
from edgedistill.saliency.perturbation import PerturbationPlan
from edgedistill.teachers import TorchClassifier

pytestmark = pytest.mark.slow

CLASSES = 3
LENGTH = 40
SMALL = {
    "fcn": ModelSpec(family="fcn", width=4),
    "resnet": ModelSpec(family="resnet", width=4, depth=1),
    "inception": ModelSpec(family="inception", width=2, depth=1),
    "lstm": ModelSpec(family="lstm", width=6, depth=1),
}
PLANS = {
    "mean": PerturbationPlan(length=LENGTH, width=3, stride=2),  # one more window ends the series
    "zero": PerturbationPlan(length=LENGTH, width=4, stride=7, baseline="zero", temperature=1.0),
    "local_mean": PerturbationPlan(length=LENGTH, width=5, stride=3, baseline="local_mean"),
}
# Operators that TensorRT's ONNX parser takes; with others a file is no file for every board.
TENSORRT = {
    *("Abs", "Add", "Atanh", "BatchNormalization", "Clip", "Concat", "Conv", "Div", "Exp"),
    *("Gather", "Gemm", "LSTM", "LessOrEqual", "LogSoftmax", "MatMul", "Max", "MaxPool", "Mul"),
    *("Neg", "Pad", "ReduceMax", "ReduceMean", "ReduceSum", "Relu", "Reshape", "Slice", "Squeeze"),
    *("Sub", "Transpose", "Unsqueeze", "Where"),
}


@pytest.fixture(scope="module")
def motions():
    """Real series of two channels, (5, 2, 40)."""
    series, _ = load_basic_motions(split="train")
    return series[:5, :2, :LENGTH].astype(np.float32)


def _student(family: str) -> nn.Module:
    torch.manual_seed(0)
    model = build(SMALL[family], channels=2, classes=CLASSES, length=LENGTH)
    nn.init.normal_(model.head.weight, std=5.0)  # so that windows matter
    return model


def _run(path, series):
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(["logits", "saliency", "window_saliency"], {"series": series})


@pytest.mark.parametrize(
    ("family", "baseline", "form"),
    [
        ("fcn", "mean", "incremental"),
        ("fcn", "zero", "incremental"),
        ("fcn", "local_mean", "incremental"),
        ("resnet", "local_mean", "incremental"),
        ("inception", "mean", "general"),
        ("lstm", "local_mean", "general"),
    ],
)
def test_file_gives_the_maps_of_the_library(family, baseline, form, motions, tmp_path):
    """For one series and for three; what the library's own fast way says, too."""
    model, plan = _student(family), PLANS[baseline]
    path = tmp_path / "explain.onnx"

    facts = export_explainer(model, path, motions, plan)

    teacher = TorchClassifier(model, classes=CLASSES)
    expected = explain(teacher.logits, motions, plan, changes=teacher.changes)
    assert expected.kl.max() > 1e-4  # there is something to agree on
    allowed = 1e-5 * min(1, expected.kl.max() ** 0.5)
    for count in (1, 3):
        logits, saliency, windows = _run(path, motions[:count])
        np.testing.assert_allclose(logits, expected.logits[:count], atol=1e-5)
        np.testing.assert_allclose(windows, expected.kl[:count], atol=allowed)
        np.testing.assert_allclose(saliency, time_map(expected.kl, plan)[:count], atol=allowed)
    assert facts.form == form
    assert (facts.form == "general") == bool(facts.reason)
    assert facts.windows == len(plan.starts)
    assert facts.size_bytes == path.stat().st_size
    assert facts.max_abs_error <= allowed
    assert facts.largest_score == pytest.approx(expected.kl.max(), rel=1e-4)
    _check_graph(onnx.load(path), plan, facts)


def _check_graph(proto, plan, facts):
    """Names, shapes, free batch, operators and the plan are as documented."""
    shapes = {
        value.name: [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in (*proto.graph.input, *proto.graph.output)
    }
    assert shapes == {
        "series": ["batch", 2, LENGTH],
        "logits": ["batch", CLASSES],
        "saliency": ["batch", LENGTH],
        "window_saliency": ["batch", len(plan.starts)],
    }
    assert {node.op_type for node in proto.graph.node} <= TENSORRT
    assert [(o.domain, o.version) for o in proto.opset_import] == [("", OPSET)]
    assert len(proto.graph.node) == facts.nodes
    said = json.loads({entry.key: entry.value for entry in proto.metadata_props}[METADATA])
    assert PerturbationPlan.from_dict(said["plan"]) == plan
    assert said["starts"] == plan.starts.tolist()
    assert said["form"] == facts.form


def test_one_series_is_enough_for_a_dynamic_batch(motions, tmp_path):
    path = tmp_path / "explain.onnx"

    export_explainer(_student("fcn"), path, motions[:1], PLANS["mean"])

    assert _run(path, motions)[1].shape == (5, LENGTH)


def test_constant_series_have_a_flat_map(tmp_path):
    """Nothing changes where the mean replaces the mean; largest score 0 is no error."""
    path = tmp_path / "explain.onnx"
    flat = np.ones((2, 2, LENGTH), dtype=np.float32)

    for family in ("fcn", "lstm"):
        facts = export_explainer(_student(family), path, flat, PLANS["mean"])
        assert facts.largest_score < 1e-10


def test_the_model_stays_as_it_is(motions, tmp_path):
    model = nn.Sequential(
        *(nn.Conv1d(2, 4, 3), nn.BatchNorm1d(4), nn.ReLU(inplace=True)),
        *(nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(4, CLASSES)),
    )
    before = {name: value.clone() for name, value in model.state_dict().items()}

    export_explainer(model, tmp_path / "explain.onnx", motions, PLANS["mean"])

    assert model.training
    assert model[2].inplace
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_wrong_weight_leaves_no_file(motions, tmp_path, monkeypatch):
    """A graph whose changes go wrong is refused although its logits are right."""
    choose_network = explainer._choose_network

    def planted(*args):
        chosen = choose_network(*args)
        buffers = chosen.network.layers.named_buffers()
        weights = [value for name, value in buffers if name.endswith("weight")]
        weights[0][(0,) * weights[0].ndim] += 1e-3
        return chosen

    monkeypatch.setattr(explainer, "_choose_network", planted)

    with pytest.raises(VerificationError, match=r"misses the saliency .* is allowed") as caught:
        export_explainer(_student("fcn"), tmp_path / "explain.onnx", motions, PLANS["mean"])

    assert caught.value.exit_code == 4
    assert list(tmp_path.iterdir()) == []


class Drifting(nn.Module):
    """Gives other logits when it is traced for a file than when it is run."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(2, CLASSES)

    def forward(self, x):
        bias = 1e-3 if torch.compiler.is_compiling() else 0.0
        return self.head(x.mean(dim=2)) + bias


def test_wrong_logits_leave_no_file(motions, tmp_path):
    with pytest.raises(VerificationError, match="The explainer misses the logits it must give"):
        export_explainer(Drifting(), tmp_path / "explain.onnx", motions, PLANS["mean"])

    assert list(tmp_path.iterdir()) == []


def test_a_miss_leaves_the_file_that_stood_there(motions, tmp_path):
    path = tmp_path / "explain.onnx"
    path.write_bytes(b"mine")

    with pytest.raises(VerificationError):
        export_explainer(Drifting(), path, motions, PLANS["mean"])

    assert path.read_bytes() == b"mine"


def test_tolerance_is_what_decides(motions, tmp_path):
    path = tmp_path / "explain.onnx"

    facts = export_explainer(Drifting(), path, motions, PLANS["mean"], tolerance=1e-2)

    assert facts.max_abs_error_logits == pytest.approx(1e-3, rel=0.01)


def test_what_cannot_be_explained_is_refused(motions, tmp_path):
    """Each with its own error, before anything is written."""
    path, plan = tmp_path / "explain.onnx", PLANS["mean"]

    with pytest.raises(DataError, match="at least one series"):
        export_explainer(_student("fcn"), path, motions[:0], plan)
    with pytest.raises(ShapeError, match="series of 30 steps for a plan of 40"):
        export_explainer(_student("fcn"), path, motions[:, :, :30], plan)
    with pytest.raises(ModelError, match="does not take series of shape"):
        export_explainer(_student("fcn"), path, motions[:, :1], plan)
    assert list(tmp_path.iterdir()) == []
