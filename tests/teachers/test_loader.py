"""Teachers from what a recipe names."""

from __future__ import annotations

from pathlib import Path

import joblib
import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from safetensors.torch import save_file
from sklearn.linear_model import LogisticRegression

from edgedistill.errors import ModelError, ShapeError, UsageError
from edgedistill.models import ModelSpec, build
from edgedistill.teachers import (
    EstimatorClassifier,
    OnnxClassifier,
    SoftmaxClassifier,
    TableClassifier,
    TorchClassifier,
    load,
)

NAMES = ("left", "right")
FACTORY = """
import torch
from edgedistill.models import ModelSpec, build

SEEN = {}

def fcn(*, channels, classes, length):
    spec = ModelSpec(family="fcn", width=2)
    return build(spec, channels=channels, classes=classes, length=length)

def anything(**sizes):
    SEEN.update(sizes)
    return fcn(**sizes)

def ready():
    return fcn(channels=1, classes=2, length=8)

def three_classes():
    return fcn(channels=1, classes=3, length=8)

def two_channels():
    return fcn(channels=2, classes=2, length=8)

def softmax():
    return torch.nn.Sequential(ready(), torch.nn.Softmax(dim=1))

def text():
    return "no module"

constant = 3
"""


@pytest.fixture
def x(rng) -> np.ndarray:
    return rng.normal(size=(20, 1, 8)).astype(np.float32)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a module of factories in it, as beside a recipe."""
    (tmp_path / "brought.py").write_text(FACTORY)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(__import__("sys").modules, "brought", raising=False)
    return tmp_path


def fcn() -> torch.nn.Module:
    return build(ModelSpec(family="fcn", width=2), channels=1, classes=2, length=8)


def test_factory_and_weights(folder, x):
    """The module of the current folder, filled with the given weights."""
    torch.manual_seed(5)
    original = fcn()
    save_file(original.state_dict(), folder / "w.safetensors")

    teacher = load("brought:fcn", class_names=NAMES, train=x, weights=Path("w.safetensors"))

    assert isinstance(teacher, TorchClassifier)
    np.testing.assert_array_equal(teacher.logits(x), TorchClassifier(original, classes=2).logits(x))


def test_factory_gets_what_it_has_parameters_for(folder, x):
    import importlib

    load("brought:ready", class_names=NAMES, train=x)
    load("brought:anything", class_names=NAMES, train=x)

    seen = importlib.import_module("brought").SEEN
    assert seen == {"channels": 1, "classes": 2, "length": 8}


def test_weights_that_do_not_fit_are_listed(folder, x):
    state = fcn().state_dict()
    state["head.extra"] = torch.zeros(1)
    state["head.weight"] = torch.zeros(2, 7)
    del state["head.bias"]
    save_file(state, folder / "w.safetensors")

    with pytest.raises(ModelError) as caught:
        load("brought:fcn", class_names=NAMES, train=x, weights=Path("w.safetensors"))

    assert "1 missing (head.bias)" in str(caught.value)
    assert "1 unexpected (head.extra)" in str(caught.value)
    assert "1 of another shape (head.weight is (2, 7), not (2, 2))" in str(caught.value)


def test_many_misfits_are_shortened(folder, x):
    save_file({"a": torch.zeros(1)}, folder / "w.safetensors")

    with pytest.raises(ModelError, match=r"23 missing \((\S+, ){5}\.\.\.\); 1 unexpected \(a\)"):
        load("brought:fcn", class_names=NAMES, train=x, weights=Path("w.safetensors"))


def test_damaged_weights_are_named(folder, x):
    (folder / "w.safetensors").write_bytes(b"\x10")

    with pytest.raises(ModelError, match=r"Cannot read w\.safetensors"):
        load("brought:fcn", class_names=NAMES, train=x, weights=Path("w.safetensors"))


def test_pickled_weights_are_refused(folder, x):
    torch.save(fcn().state_dict(), folder / "w.pt")

    with pytest.raises(UsageError, match=r"w\.pt is no \.safetensors file"):
        load("brought:fcn", class_names=NAMES, train=x, weights=Path("w.pt"))


@pytest.mark.parametrize("spec", ["absent_module:f", ":f", ".relative:f"])
def test_module_that_cannot_be_imported(spec, folder, x):
    with pytest.raises(UsageError, match="Cannot import"):
        load(spec, class_names=NAMES, train=x)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("brought:fcm", r"no factory 'fcm'\. Did you mean 'fcn'\?"),
        ("brought:constant", "no factory"),
    ],
)
def test_missing_factory_names_the_nearest(spec, message, folder, x):
    with pytest.raises(UsageError, match=message):
        load(spec, class_names=NAMES, train=x)


def test_factory_of_something_else_is_refused(folder, x):
    with pytest.raises(ModelError, match="brought:text makes a str"):
        load("brought:text", class_names=NAMES, train=x)


def test_wrong_number_of_classes_is_refused(folder, x):
    with pytest.raises(ModelError, match=r"shape \(16, 3\) for 16 series; the data set has 2"):
        load("brought:three_classes", class_names=NAMES, train=x)


def test_series_that_the_module_cannot_take_are_refused(folder, x):
    with pytest.raises(ModelError, match=r"cannot take series of shape \(16, 1, 8\) \(N, C, T\)"):
        load("brought:two_channels", class_names=NAMES, train=x)


def test_probabilities_become_logits(folder, x):
    """A softmax at the end is detected: as logits, its output would be flat."""
    teacher = load("brought:softmax", class_names=NAMES, train=x)

    assert isinstance(teacher, SoftmaxClassifier)
    np.testing.assert_allclose(np.exp(teacher.logits(x)).sum(axis=1), 1, atol=1e-5)
    assert teacher.can_explain


def test_onnx_file(x, tmp_path):
    path = mean_model(tmp_path / "m.onnx")

    teacher = load(str(path), class_names=NAMES, train=x)

    assert isinstance(teacher, OnnxClassifier)
    mean = x.mean(axis=2)
    np.testing.assert_allclose(teacher.logits(x), np.hstack([mean, -mean]), atol=1e-6)


def test_truncated_onnx_file_is_named(x, tmp_path):
    path = mean_model(tmp_path / "m.onnx")
    path.write_bytes(path.read_bytes()[:-30])

    with pytest.raises(ModelError, match=r"m\.onnx"):
        load(str(path), class_names=NAMES, train=x)


def test_joblib_needs_trust(x, tmp_path):
    path = tmp_path / "e.joblib"
    labels = np.array(NAMES)[(x.mean(axis=(1, 2)) > 0).astype(int)]
    joblib.dump(LogisticRegression().fit(x[:, 0], labels), path)

    with pytest.raises(UsageError, match=r"runs whatever code it contains.*--trust"):
        load(str(path), class_names=NAMES, train=x)

    assert isinstance(load(str(path), class_names=NAMES, train=x, trust=True), EstimatorClassifier)


def test_joblib_runs_nothing_before_trust(x, tmp_path):
    path = tmp_path / "e.joblib"
    joblib.dump(Touch(tmp_path / "ran"), path)

    with pytest.raises(UsageError):
        load(str(path), class_names=NAMES, train=x)

    assert not (tmp_path / "ran").exists()
    joblib.load(path)
    assert (tmp_path / "ran").exists()  # the guard above can fail


def test_damaged_joblib_is_named(x, tmp_path):
    path = tmp_path / "e.joblib"
    joblib.dump(LogisticRegression(), path)
    path.write_bytes(path.read_bytes()[:30])

    with pytest.raises(ModelError, match=r"Cannot load .*e\.joblib"):
        load(str(path), class_names=NAMES, train=x, trust=True)


def test_estimator_of_other_series_is_refused(x, tmp_path):
    path = tmp_path / "e.joblib"
    labels = np.array(NAMES)[np.arange(20) % 2]
    joblib.dump(LogisticRegression().fit(x[:, 0, :5], labels), path)

    with pytest.raises(ModelError, match=r"cannot take series .*: X has 8 features"):
        load(str(path), class_names=NAMES, train=x, trust=True)


def test_table_of_logits(x, tmp_path, rng):
    rows = rng.normal(size=(20, 2)).astype(np.float32)
    np.savez(tmp_path / "t.npz", train=rows)

    teacher = load(str(tmp_path / "t.npz"), class_names=NAMES, train=x)

    assert isinstance(teacher, TableClassifier)
    np.testing.assert_array_equal(teacher.logits(x), rows)


def test_table_of_other_classes_is_refused(x, tmp_path):
    np.savez(tmp_path / "t.npz", train=np.zeros((20, 3), np.float32))

    with pytest.raises(ModelError, match=r"logits of 3 classes; the data set has 2"):
        load(str(tmp_path / "t.npz"), class_names=NAMES, train=x)


@pytest.mark.parametrize("spec", ["absent.onnx", "absent.npz", "absent.joblib"])
def test_missing_file_is_named(spec, x):
    with pytest.raises(ModelError, match=f"no file {spec}"):
        load(spec, class_names=NAMES, train=x)


@pytest.mark.parametrize(
    ("spec", "message"),
    [("model.pt", "runs code when it is opened"), ("resnet", "names no teacher")],
)
def test_other_kinds_are_refused(spec, message, x):
    with pytest.raises(UsageError, match=message):
        load(spec, class_names=NAMES, train=x)


def test_weights_beside_a_file_are_refused(x):
    with pytest.raises(UsageError, match="Weights go with a factory"):
        load("m.onnx", class_names=NAMES, train=x, weights=Path("w.safetensors"))


def test_series_of_another_rank_are_refused(x):
    with pytest.raises(ShapeError, match=r"\(N, C, T\)"):
        load("m.onnx", class_names=NAMES, train=x[:, 0])


class Touch:
    """Unpickling it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


def mean_model(path: Path) -> Path:
    """Write a model whose logits are the mean of a series and its negative."""
    graph = helper.make_graph(
        [
            helper.make_node("ReduceMean", ["series", "axes"], ["mean"], keepdims=0),
            helper.make_node("Neg", ["mean"], ["minus"]),
            helper.make_node("Concat", ["mean", "minus"], ["logits"], axis=1),
        ],
        "mean",
        [helper.make_tensor_value_info("series", TensorProto.FLOAT, ("batch", 1, 8))],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ("batch", 2))],
        [helper.make_tensor("axes", TensorProto.INT64, [1], [2])],
    )
    opset = helper.make_opsetid("", 20)
    onnx.save(helper.make_model(graph, opset_imports=[opset], ir_version=10), path)
    return path
