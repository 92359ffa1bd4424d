"""A variant beside its teacher: in one runtime if the teacher can be exported, in one run."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from edgedistill.bundle.reader import Model
from edgedistill.pipeline.stages.speed import compare_speed, runtime_name
from edgedistill.teachers import (
    EstimatorClassifier,
    OnnxClassifier,
    SoftmaxClassifier,
    TorchClassifier,
)
from edgedistill.teachers.columns import ReorderedClassifier

pytestmark = pytest.mark.slow


@pytest.fixture
def model(student) -> Model:
    return Model(
        name="ort-fp32", path=student("fcn"), runtime="onnxruntime", precision="fp32", parameters=1
    )


def _network(width: int) -> torch.nn.Module:
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Conv1d(1, width, 9, padding=4),
        torch.nn.ReLU(),
        torch.nn.AdaptiveAvgPool1d(1),
        torch.nn.Flatten(),
        torch.nn.Linear(width, 2),
    )


def test_a_torch_teacher_is_timed_in_the_runtime_of_the_model(model, series):
    """And in torch beside it."""
    found = compare_speed(model, TorchClassifier(_network(512), classes=2), series)

    assert (found.model, found.runtime, found.native_runtime) == (
        "ort-fp32",
        "onnxruntime",
        "torch",
    )
    assert found.teacher_ms.value > 0
    assert found.native_ms.value > 0
    assert found.reason is None


def test_a_teacher_with_its_columns_in_order_is_timed_as_what_it_is(model, series):
    teacher = ReorderedClassifier(TorchClassifier(_network(8), classes=2), [1, 0])

    found = compare_speed(model, SoftmaxClassifier(teacher), series)

    assert found.native_runtime == "torch"
    assert found.teacher_ms is not None
    assert found.reason is None


def test_a_teacher_as_large_as_the_model_is_not_faster_for_its_runtime(student, series, tmp_path):
    """The same network, exported: about as fast as itself, whatever torch takes."""
    from edgedistill.export.export import export

    network = _network(256)
    export(network, tmp_path / "model.onnx", series[:8])
    model = Model(
        name="same",
        path=tmp_path / "model.onnx",
        runtime="onnxruntime",
        precision="fp32",
        parameters=1,
    )

    found = compare_speed(model, TorchClassifier(network, classes=2), series)

    assert 0.4 < found.teacher_ms.value / found.model_ms.value < 2.5


def test_an_onnx_teacher_needs_no_export(model, student, series):
    """It is in that runtime already; one time is all there is."""
    found = compare_speed(model, OnnxClassifier(student("lite"), classes=2), series)

    assert found.teacher_ms.value > 0
    assert (found.native_runtime, found.native_ms, found.reason) == ("onnxruntime", None, None)


def test_an_estimator_is_timed_as_it_is(model, series):
    """And named, with why it is."""
    labels = np.arange(len(series)) % 2
    estimator = LogisticRegression().fit(series.reshape(len(series), -1), labels)
    teacher = EstimatorClassifier(estimator, class_names=("0", "1"), name="logistic.joblib")

    found = compare_speed(model, teacher, series)

    assert (found.teacher_ms, found.native_runtime) == (None, "sklearn")
    assert found.native_ms.value > 0
    assert found.reason == "logistic.joblib is no torch module, which alone can be exported."
    assert runtime_name(teacher) == "sklearn"


class _Growing(torch.nn.Module):
    """Depends on the values of a series, which no export can hold."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        parts = [x.mean(dim=2)]
        while float(parts[-1].abs().max()) < 1:
            parts.append(parts[-1] * 2 + 0.5)
        return torch.cat([parts[-1], -parts[-1]], dim=1)


def test_a_network_that_cannot_be_exported_is_timed_in_torch(model, series):
    found = compare_speed(model, TorchClassifier(_Growing(), classes=2), series)

    assert found.teacher_ms is None
    assert found.native_ms.value > 0
    assert "cannot export this _Growing to ONNX" in found.reason


def test_a_model_for_tensorrt_has_no_time_here(model, series):
    other = Model(name="trt", path=model.path, runtime="tensorrt", precision="fp16", parameters=1)

    assert compare_speed(other, TorchClassifier(_network(4), classes=2), series) is None


def test_threads_of_torch_are_as_before(model, series):
    before = torch.get_num_threads()

    compare_speed(model, TorchClassifier(_network(4), classes=2), series)

    assert torch.get_num_threads() == before
