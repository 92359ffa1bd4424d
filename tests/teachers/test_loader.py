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
from edgedistill.saliency.occlusion import explain, explain_classifier
from edgedistill.saliency.perturbation import default_plan
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
import collections
import sys
import warnings

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

class Outputs(torch.nn.Module):
    # Gives what `pack` makes of features (N, 4) and logits.

    def __init__(self, pack, columns=2):
        super().__init__()
        self.body = torch.nn.Linear(8, 4)
        self.head = torch.nn.Linear(4, columns)
        self.pack = pack

    def forward(self, x):
        features = self.body(x[:, 0])
        return self.pack(features, self.head(features))

Named = collections.namedtuple("Named", "hidden logits")
Plain = collections.namedtuple("Plain", "first second")

class Attributes:
    def __init__(self, features, logits):
        self.features, self.logits = features, logits

def plain(): return Outputs(lambda f, z: z)
def squeezed(): return Outputs(lambda f, z: z.squeeze())
def squeezed_single(): return Outputs(lambda f, z: z.squeeze(), columns=1)
def labels(): return Outputs(lambda f, z: z.argmax(1))
def votes(): return Outputs(lambda f, z: torch.nn.functional.one_hot(z.argmax(1), 2))
def complex_logits(): return Outputs(lambda f, z: torch.complex(z, z))
def centered(): return Outputs(lambda f, z: z - z.mean(0))
def exiting(): return Outputs(lambda f, z: sys.exit())
def scaled(): return Outputs(lambda f, z: 1e3 * z / z.abs().max())
def pair(): return Outputs(lambda f, z: (f, z))
def listed(): return Outputs(lambda f, z: [z, f])
def named(): return Outputs(lambda f, z: Named(f[:, :2], z))
def unnamed(): return Outputs(lambda f, z: Plain(f, z))
def mapping(): return Outputs(lambda f, z: {"features": f[:, :2], "logits": z})
def only_one(): return Outputs(lambda f, z: {"features": f, "scores": z})
def attributes(): return Outputs(Attributes)
def two_fit(): return Outputs(lambda f, z: {"a": z, "b": z})
def none_fits(): return Outputs(lambda f, z: (f, f))
def empty(): return Outputs(lambda f, z: ())
def single(): return Outputs(lambda f, z: z, 1)
def flat(): return Outputs(lambda f, z: z[:, 0], 1)
def single_pair(): return Outputs(lambda f, z: (z, f), 1)
def sigmoids(): return Outputs(lambda f, z: torch.sigmoid(20 * z))
def small(): return Outputs(lambda f, z: 0.1 + torch.sigmoid(z) / 5)
def sigmoid(): return Outputs(lambda f, z: torch.sigmoid(z), 1)
def random_start(): return Outputs(lambda f, z: z + torch.randn(len(z), 1))
def awake_dropout(): return Outputs(lambda f, z: torch.dropout(z, 0.5, True))
def failing(): return Outputs(lambda f, z: {}["absent"])
def meta(): return Outputs(lambda f, z: z).to("meta")

class Writes(torch.nn.Module):
    def forward(self, x):
        x -= 1
        return x[:, 0, :2]

def old_weight_norm():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        layer = torch.nn.utils.weight_norm(torch.nn.Linear(8, 2))
    return torch.nn.Sequential(torch.nn.Flatten(), layer)

class Packed(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.cells, self.head = torch.nn.LSTM(1, 4, batch_first=True), torch.nn.Linear(4, 2)

    def forward(self, x):
        rnn = torch.nn.utils.rnn
        packed = rnn.pack_padded_sequence(
            x.transpose(1, 2), torch.full((len(x),), x.shape[2]), batch_first=True
        )
        return self.head(self.cells(packed)[1][0][-1])

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


def test_values_in_0_to_1_that_are_taken_for_logits_are_reported(folder, x):
    notes: list[str] = []

    load("brought:small", class_names=NAMES, train=x, on_note=notes.append)

    assert notes == ["The values of brought:small lie in 0 to 1; they were taken for logits."]


OUTPUTS = {
    "pair": "0, 1), 1",
    "listed": "0, 1), 0",
    "named": "1), 1",
    "unnamed": "0, 1), 1",
    "mapping": "features, logits), logits",
    "only_one": "features, scores), scores",
    "attributes": "logits), logits",
}


@pytest.mark.parametrize("name", OUTPUTS)
def test_logits_among_several_outputs_are_taken_and_reported(name, folder, x):
    notes: list[str] = []
    torch.manual_seed(3)
    expected = load("brought:plain", class_names=NAMES, train=x, on_note=notes.append)
    torch.manual_seed(3)

    teacher = load(f"brought:{name}", class_names=NAMES, train=x, on_note=notes.append)

    np.testing.assert_array_equal(teacher.logits(x), expected.logits(x))
    assert notes == [f"Of the outputs of brought:{name} ({OUTPUTS[name]} is the logits."]
    plan = default_plan(8)
    actual, slow = explain_classifier(teacher, x, plan), explain(expected.logits, x, plan)
    np.testing.assert_allclose(actual.kl, slow.kl, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("two_fit", r"a dict \(a \(16, 2\), b \(16, 2\)\), and which .* cannot be told"),
        ("none_fits", r"a tuple \(0 \(16, 4\), 1 \(16, 4\)\)"),
        ("empty", r"a tuple \(no tensors\).*Name it 'logits'"),
        ("random_start", "other logits for the same series when it is run again"),
        ("awake_dropout", "a dropout that stays on in evaluation"),
        ("centered", "when other series are run with it"),
        ("scaled", "when other series are run with it"),
        ("sigmoids", r"rows sum to .*: a sigmoid of each class, as of a model of several labels"),
        ("labels", "gives int64, no real numbers"),
        ("votes", "gives int64, no real numbers"),
        ("complex_logits", "gives complex64, no real numbers"),
        ("exiting", r"SystemExit \(brought\.py, line \d+\)"),
        ("failing", r"KeyError: 'absent' \(brought\.py, line \d+\)"),
        ("meta", "tensor without values"),
    ],
)
def test_odd_teachers_are_refused_with_the_way_out(name, message, folder, x):
    with pytest.raises(ModelError, match=message):
        load(f"brought:{name}", class_names=NAMES, train=x)


@pytest.mark.parametrize("name", ["old_weight_norm", "Packed"])
def test_modules_that_cannot_be_traced_explain_too(name, folder, x):
    teacher = load(f"brought:{name}", class_names=NAMES, train=x)

    actual = explain_classifier(teacher, x, default_plan(8))

    slow = explain(teacher.logits, x, default_plan(8))
    np.testing.assert_allclose(actual.kl, slow.kl, atol=1e-5)


def test_module_that_writes_into_its_input_changes_no_series(folder, x):
    """Neither those of the caller, nor those that perturbed copies are made of."""
    teacher, before = load("brought:Writes", class_names=NAMES, train=x), x.copy()

    actual = explain_classifier(teacher, x, default_plan(8))

    np.testing.assert_array_equal(x, before)
    np.testing.assert_array_equal(actual.logits, x[:, 0, :2] - 1)
    slow = explain(lambda series: series[:, 0, :2] - 1, x, default_plan(8))
    np.testing.assert_allclose(actual.signed, slow.signed, atol=1e-5)


@pytest.mark.parametrize("name", ["single", "flat", "single_pair"])
def test_one_logit_is_that_of_the_second_class(name, folder, x):
    notes: list[str] = []
    torch.manual_seed(3)

    teacher = load(f"brought:{name}", class_names=NAMES, train=x, on_note=notes.append)

    logits = teacher.logits(x)
    torch.manual_seed(3)
    brought = __import__("brought")
    with torch.no_grad():
        z = brought.single()(torch.from_numpy(x))[:, 0].numpy()
    np.testing.assert_allclose(logits[:, 1] - logits[:, 0], z, atol=1e-6)
    assert f"column of brought:{name} was taken for the logit of the class 'right'" in notes[-1]


@pytest.mark.parametrize("name", ["squeezed", "squeezed_single"])
def test_module_that_drops_the_axis_of_one_series(name, folder, x):
    teacher = load(f"brought:{name}", class_names=NAMES, train=x)

    alone = np.concatenate([teacher.logits(x[i : i + 1]) for i in range(len(x))])

    np.testing.assert_allclose(alone, teacher.logits(x), atol=1e-5)


def test_column_order_is_checked_on_series_of_all_classes_of_a_sorted_file(tmp_path):
    """The first series of one class alone may have logits that look like probabilities."""
    x = np.arange(40, dtype=np.float32).reshape(40, 1, 1)
    z = np.linspace(0.9, -0.9, 40).astype(np.float32)
    np.savez(tmp_path / "logits.npz", train=z)
    notes: list[str] = []

    load(str(tmp_path / "logits.npz"), class_names=NAMES, train=x, on_note=notes.append)

    assert "taken for the logit" in notes[0]


def test_one_probability_is_recognized(folder, x):
    notes: list[str] = []

    teacher = load("brought:sigmoid", class_names=NAMES, train=x, on_note=notes.append)

    np.testing.assert_allclose(np.exp(teacher.logits(x)).sum(axis=1), 1, atol=1e-5)
    assert "for the probability of the class 'right'" in notes[0]


def test_one_column_is_of_the_last_named_class(folder, x):
    """`columns` names the class of 0, then that of 1."""
    notes: list[str] = []
    torch.manual_seed(3)
    expected = load("brought:single", class_names=NAMES, train=x).logits(x)
    torch.manual_seed(3)

    columns = ("right", "left")
    teacher = load(
        "brought:single", class_names=NAMES, train=x, columns=columns, on_note=notes.append
    )

    np.testing.assert_array_equal(teacher.logits(x), expected[:, ::-1])
    assert "'left'" in notes[0]


def test_one_column_of_three_classes_is_refused(folder, x):
    with pytest.raises(ModelError, match=r"shape \(16, 1\) for 16 series; the data set has 3"):
        load("brought:single", class_names=("a", "b", "c"), train=x)


def test_one_column_of_a_table(x, tmp_path, rng):
    column = rng.normal(size=20).astype(np.float32)
    np.savez(tmp_path / "t.npz", train=column)

    logits = load(str(tmp_path / "t.npz"), class_names=NAMES, train=x).logits(x)

    np.testing.assert_allclose(logits[:, 1] - logits[:, 0], column, atol=1e-6)


@pytest.mark.parametrize("labels", ["names", "numbers"])
@pytest.mark.parametrize("columns", [None, NAMES, NAMES[::-1]])
def test_columns_of_an_estimator(labels, columns, x, tmp_path):
    """One that was fitted on names follows them; one of numbers is named."""
    path, y = tmp_path / "e.joblib", (x.mean(axis=(1, 2)) > 0).astype(int)
    fitted_on = np.array(NAMES)[y] if labels == "names" else y
    joblib.dump(LogisticRegression().fit(x[:, 0], fitted_on), path)

    def opened():
        return load(str(path), class_names=NAMES, train=x, trust=True, columns=columns)

    if labels == "names" and columns == NAMES[::-1]:
        with pytest.raises(UsageError, match=r"e\.joblib names its classes itself, in another or"):
            opened()
        return
    hits = (opened().logits(x).argmax(axis=1) == y).mean()
    assert hits > 0.8 if columns != NAMES[::-1] else hits < 0.2


def test_classes_of_an_estimator_are_numbers_however_spelled(x, tmp_path):
    path, y = tmp_path / "e.joblib", np.where(x.mean(axis=(1, 2)) > 0, -1.0, 1.0)
    joblib.dump(LogisticRegression().fit(x[:, 0], y), path)

    logits = load(str(path), class_names=("-1", "1"), train=x, trust=True).logits(x)

    assert ((logits.argmax(axis=1) == 0) == (y == -1)).mean() > 0.8


def test_onnx_file_with_several_outputs(x, tmp_path):
    """Named "logits", or the first of (N, K)."""
    model, notes = onnx.load(mean_model(tmp_path / "m.onnx")), []
    first = helper.make_tensor_value_info("mean", TensorProto.FLOAT, ("batch", 1))
    outputs = [first, *model.graph.output]
    del model.graph.output[:]
    model.graph.output.extend(outputs)
    onnx.save(model, tmp_path / "two.onnx")

    teacher = load(str(tmp_path / "two.onnx"), class_names=NAMES, train=x, on_note=notes.append)

    mean = x.mean(axis=2)
    np.testing.assert_allclose(teacher.logits(x), np.hstack([mean, -mean]), atol=1e-6)
    assert notes == ["Of the outputs of two.onnx, logits is the logits, not mean."]


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
