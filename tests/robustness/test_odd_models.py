"""No ONNX file, however odd, makes a public function fail with anything but an error of ours."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper, parser

from edgedistill.compare.activations import Network
from edgedistill.errors import EdgeDistillError, ModelError
from edgedistill.inspection import describe
from edgedistill.optimize.emulation import Emulation
from edgedistill.optimize.ort_format import to_ort
from edgedistill.optimize.passes.graph import load
from edgedistill.optimize.variants import variants
from edgedistill.runtimes.onnxruntime import OrtRuntime
from edgedistill.teachers import OnnxClassifier

X = np.random.default_rng(0).normal(size=(6, 1, 24)).astype(np.float32)

READERS: dict[str, Callable[[Path], Any]] = {
    "compare": lambda path: [Network(path).layers(2, (1, 24)), Network(path).logits(X)],
    "describe": describe,
    "emulation": lambda path: Emulation(path).logits(X),
    "load": load,
    "ort": lambda path: to_ort(path, path.with_suffix(".ort"), X),
    "runtime": lambda path: OrtRuntime(path).logits(X),
    "teacher": lambda path: OnnxClassifier(path, classes=2).logits(X),
    "variants": lambda path: variants(path, X, path.parent / "out", runtimes=("tensorrt",)),
}
PLAIN = "(float[N,1,24] x) => (float[N,2] y) { f = Flatten(x) y = MatMul(f, w) }"


def _model(text: str = PLAIN) -> onnx.ModelProto:
    model = parser.parse_model(f'<ir_version: 10, opset_import: ["" : 20]> g {text}')
    weights = np.linspace(-1, 1, 48, dtype=np.float32).reshape(24, 2)
    model.graph.initializer.append(numpy_helper.from_array(weights, "w"))
    return model


def _changed(change: Callable[[onnx.ModelProto], object]) -> Callable[[], onnx.ModelProto]:
    def make() -> onnx.ModelProto:
        model = _model()
        change(model)
        return model

    return make


def _typed(kind: str) -> Callable[[], onnx.ModelProto]:
    return lambda: _model(PLAIN.replace("float[N,1,24] x", kind))


def _calls_itself(model: onnx.ModelProto) -> None:
    opset = helper.make_opsetid("local", 1)
    node = helper.make_node("F", ["a"], ["b"], domain="local")
    model.functions.append(helper.make_function("local", "F", ["a"], ["b"], [node], [opset]))
    model.opset_import.append(opset)
    model.graph.node[0].op_type, model.graph.node[0].domain = "F", "local"


ODD: dict[str, Callable[[], onnx.ModelProto]] = {
    **{kind: _typed(kind) for kind in ("int64[N,1,24] x", "float16[N,1,24] x", "string[N] x")},
    **{kind: _typed(kind) for kind in ("float[0,1,24] x", "float[N,C,T] x", "float[N,24] x")},
    **{kind: _typed(kind) for kind in ("float x", "float[3,1,24] x", "float[N,1,0] x")},
    "two inputs": _typed("float[N,1,24] x, float[N,1,24] z"),
    "two outputs": lambda: _model(PLAIN.replace("[N,2] y", "[N,2] y, float[N,24] f")),
    "sequence": lambda: _model("(float[N,1,24] x) => (seq(float[N,1,24]) y) "
                               "{ y = SequenceConstruct(x) }"),
    "optional": lambda: _model("(float[N,1,24] x) => (optional(float[N,1,24]) y) "
                               "{ y = Optional(x) }"),
    "scalar": lambda: _model("(float[N,1,24] x) => (float y) { y = ReduceSum<keepdims = 0>(x) }"),
    "labels": lambda: _model("(float[N,1,24] x) => (int64[N,1] y) "
                             "{ f = Flatten(x) y = ArgMax<axis = 1>(f) }"),
    "input as output": lambda: _model("(float[N,1,24] x) => (float[N,1,24] x) { a = Relu(x) }"),
    "cycle": lambda: _model("(float[N,1,24] x) => (float[N,2] y) "
                            "{ a = Add(x, b) b = Relu(a) f = Flatten(b) y = MatMul(f, w) }"),
    "infinite": lambda: _model("(float[N,1,24] x) => (float[N,2] y) "
                               "{ l = Log(x) f = Flatten(l) y = MatMul(f, w) }"),
    "unknown operator": _changed(lambda m: setattr(m.graph.node[0], "op_type", "Unknown")),
    "unknown domain": _changed(lambda m: setattr(m.graph.node[0], "domain", "my.own")),
    "function of itself": _changed(_calls_itself),
    "no opset": _changed(lambda m: m.ClearField("opset_import")),
    "opset 99": _changed(lambda m: setattr(m.opset_import[0], "version", 99)),
    "opset 1": _changed(lambda m: setattr(m.opset_import[0], "version", 1)),
    "IR 99": _changed(lambda m: setattr(m, "ir_version", 99)),
    "no graph": _changed(lambda m: m.ClearField("graph")),
    "no shape": _changed(lambda m: m.graph.input[0].type.tensor_type.ClearField("shape")),
    "no type": _changed(lambda m: m.graph.output[0].ClearField("type")),
    "unknown type": _changed(lambda m: setattr(m.graph.initializer[0], "data_type", 99)),
    "short weights": _changed(lambda m: setattr(m.graph.initializer[0], "raw_data", b"123")),
    "huge weights": _changed(lambda m: m.graph.initializer[0].dims.append(1 << 40)),
    "negative weights": _changed(lambda m: m.graph.initializer[0].dims.__setitem__(0, -3)),
    "no name": _changed(lambda m: setattr(m.graph.initializer[0], "name", "")),
}  # fmt: skip


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("kind", ODD)
def test_odd_model(kind, reader, tmp_path):
    """It is taken, or refused with an error of ours."""
    path = tmp_path / "m.onnx"
    path.write_bytes(ODD[kind]().SerializeToString())

    with suppress(EdgeDistillError):
        READERS[reader](path)


FILES = {
    "empty": b"",
    "text": b"This is no model.",
    "cut": _model().SerializeToString()[:-30],
    "no text": _model().SerializeToString().replace(b"Flatten", b"Flat\xff\xfan"),
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("kind", FILES)
def test_damaged_file(kind, reader, tmp_path):
    """Refused as a model that cannot be used."""
    path = tmp_path / "m.onnx"
    path.write_bytes(FILES[kind])

    with pytest.raises(ModelError):
        READERS[reader](path)


@pytest.mark.parametrize("reader", READERS)
def test_name_that_is_no_text(reader, tmp_path):
    """Refused, but by those that need no names of inner values."""
    path = tmp_path / "m.onnx"
    path.write_bytes(_model().SerializeToString().replace(b"\x01f", b"\x01\xff"))

    with suppress(EdgeDistillError):
        READERS[reader](path)
    with pytest.raises(ModelError, match="is no text"):
        load(path)


@pytest.mark.parametrize("reader", sorted(set(READERS) - {"describe"}))
def test_weights_that_are_missing_beside_the_file(reader, tmp_path):
    """The file was copied without them; facts alone can be described."""
    path = tmp_path / "m.onnx"
    onnx.save(_model(), path, save_as_external_data=True, location="w.bin", size_threshold=0)
    (tmp_path / "w.bin").unlink()

    with pytest.raises(ModelError):
        READERS[reader](path)


def test_sound_model_is_taken_by_all(tmp_path):
    """So that nothing above is refused for want of a sound frame."""
    path = tmp_path / "m.onnx"
    path.write_bytes(_model().SerializeToString())

    for read in READERS.values():
        read(path)
