"""Students from elsewhere: what differs and can be told is adapted, the rest is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper, parser, version_converter

from edgedistill.errors import ModelError, ShapeError
from edgedistill.optimize.execution import logits, runner
from edgedistill.optimize.passes import opset
from edgedistill.optimize.passes.opset import opset_of
from edgedistill.optimize.student_file import load_student


@pytest.fixture
def x(rng) -> np.ndarray:
    return rng.normal(size=(5, 1, 24)).astype(np.float32)


def _saved(folder: Path, text: str, version: int = 20) -> Path:
    model = parser.parse_model(f'<ir_version: 8, opset_import: ["" : {version}]> g {text}')
    weights = np.linspace(-1, 1, 48, dtype=np.float32).reshape(24, 2)
    kind = model.graph.input[0].type.tensor_type.elem_type
    dtype = np.float64 if kind == TensorProto.DOUBLE else np.float32
    model.graph.initializer.append(numpy_helper.from_array(weights.astype(dtype), "w"))
    onnx.save(model, folder / "m.onnx")
    return folder / "m.onnx"


PLAIN = "(float[N,1,24] x) => (float[N,2] y) { f = Flatten(x) y = MatMul(f, w) }"


def test_student_of_ours_has_no_notes(x, tmp_path):
    """Its logits are those of the file."""
    path = _saved(tmp_path, PLAIN)

    student = load_student(path, x)

    assert student.notes == ()
    np.testing.assert_array_equal(student.logits, logits(path, x))


def test_float64_becomes_float32(x, tmp_path):
    """Weights included; a ConstantOfShape, whose attribute says float64, gets a cast."""
    path = _saved(
        tmp_path,
        """(double[N,1,24] x) => (double[N,2] y) {
          s = Shape(x) c = ConstantOfShape<value = double[1] {0.5}>(s) a = Add(x, c)
          f = Flatten(a) y = MatMul(f, w)
        }""",
    )

    student = load_student(path, x)

    assert student.notes == ("float64 became float32",)
    ends = (*student.model.graph.input, *student.model.graph.output)
    assert {value.type.tensor_type.elem_type for value in ends} == {TensorProto.FLOAT}
    assert [i.data_type for i in student.model.graph.initializer] == [TensorProto.FLOAT]
    np.testing.assert_allclose(runner(student.model)(x), student.logits, rtol=1e-5, atol=1e-5)


def test_float64_inside_stays(x, tmp_path):
    """Somebody wanted it there; only the logits are cast."""
    path = _saved(
        tmp_path,
        """(float[N,1,24] x) => (double[N,2] y) {
          f = Flatten(x) z = MatMul(f, w) d = Cast<to = 11>(z) y = Exp(d)
        }""",
    )

    model = load_student(path, x).model

    assert model.graph.output[0].type.tensor_type.elem_type == TensorProto.FLOAT
    assert [node.op_type for node in model.graph.node][-3:] == ["Cast", "Exp", "Cast"]


def test_free_axes_get_the_sizes_of_the_series(x, tmp_path):
    """Quantization and the passes need them."""
    path = _saved(tmp_path, PLAIN.replace("N,1,24", "N,C,T"))

    (value,) = load_student(path, x).model.graph.input

    assert [dim.dim_value for dim in value.type.tensor_type.shape.dim] == [0, 1, 24]


def test_further_outputs_are_left_out_and_reported(x, tmp_path):
    """As with teachers the first one counts."""
    text = "(float[N,1,24] x) => (float[N,2] y, float[N,24] f) { f = Flatten(x) y = MatMul(f, w) }"

    student = load_student(_saved(tmp_path, text), x)

    assert [value.name for value in student.model.graph.output] == ["y"]
    assert student.notes == ("output y holds the logits, f is left out",)


def test_model_that_differs_in_our_opset_keeps_its_own(x, tmp_path, monkeypatch):
    """A planted slip of the converter is found, and the model is used as it is."""

    def slipping(model: onnx.ModelProto, version: int) -> onnx.ModelProto:
        result = version_converter.convert_version(model, version)
        result.graph.node[0].op_type = "Sigmoid"
        return result

    text = "(float[N,1,24] x) => (float[N,2] y) { r = Relu(x) f = Flatten(r) y = MatMul(f, w) }"
    path = _saved(tmp_path, text, version=11)
    monkeypatch.setattr(opset, "convert", slipping)

    student = load_student(path, x)

    assert opset_of(student.model) == 11
    assert student.notes[0].startswith("opset 11 stays: in opset 20, The model as it was read ")
    np.testing.assert_array_equal(runner(student.model)(x), student.logits)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (PLAIN.replace("float[N,1,24] x", "int64[N,1,24] x"), "takes one input, series"),
        (PLAIN.replace("float[N,1,24] x", "float16[N,1,24] x"), "takes one input, series"),
        (PLAIN.replace("N,1,24", "N,24"), "takes one input, series"),
        (PLAIN.replace("N,1,24", "3,1,24"), "takes exactly 3 series a call. Export it for any"),
        (PLAIN.replace("x) =>", "x, float[N,1,24] z) =>"), "takes one input, series"),
        (
            "(float[N,1,24] x) => (int64[N] y) { f = Flatten(x) y = ArgMax<keepdims = 0>(f) }",
            r"gives y int64 \(N\)\. The first output of a student is its logits",
        ),
        (
            "(float[N,1,24] x) => (seq(float[N,1,24]) y) { y = SequenceConstruct(x) }",
            "The first output of a student is its logits",
        ),
        ("(float[N,1,24] x) => (float[N,1,24] y) { y = Relu(x) }", "The first output of a student"),
    ],
    ids=["int64", "half", "rank", "batch", "inputs", "label", "sequence", "map"],
)
def test_other_interfaces_are_refused(text, message, x, tmp_path):
    """With what was seen, and what a student has."""
    path = _saved(tmp_path, text)
    model = onnx.load(path)
    if model.graph.input[0].type.tensor_type.elem_type != TensorProto.FLOAT:
        del model.graph.node[:]
        model.graph.node.append(helper.make_node("RandomNormal", [], ["y"], shape=[1, 2]))
        onnx.save(model, path)

    with pytest.raises(ModelError, match=message):
        load_student(path, x)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("m = ReduceMean<axes = [0]>(x) a = Sub(x, m)", "when other series are run with it"),
        ("m = RandomNormalLike(x) a = Add(x, m)", "over the batch or is random"),
        ("m = Sub(x, x) a = Div(x, m)", "NaN or infinite logits for 5 of 5 series"),
    ],
)
def test_logits_that_are_not_of_each_series_alone_are_refused(body, message, x, tmp_path):
    text = f"(float[N,1,24] x) => (float[N,2] y) {{ {body} f = Flatten(a) y = MatMul(f, w) }}"

    with pytest.raises(ModelError, match=message):
        load_student(_saved(tmp_path, text, 17), x)


def test_series_of_another_shape_are_refused(x, tmp_path):
    """With both shapes."""
    with pytest.raises(ShapeError, match=r"takes series of shape \(1, 24\) .* these are \(1, 20\)"):
        load_student(_saved(tmp_path, PLAIN), x[:, :, :20])


def test_unknown_operator_is_refused(x, tmp_path):
    """By ONNX Runtime, which has to run the file."""
    path = _saved(tmp_path, PLAIN)
    model = onnx.load(path)
    model.graph.node[0].domain = "my.own"
    model.opset_import.append(helper.make_opsetid("my.own", 1))
    onnx.save(model, path)

    with pytest.raises(ModelError, match=r"my\.own"):
        load_student(path, x)


def test_missing_external_data_is_named(x, tmp_path):
    """Copied without the file beside it."""
    path = _saved(tmp_path, PLAIN)
    onnx.save(onnx.load(path), path, save_as_external_data=True, location="w.bin", size_threshold=0)
    load_student(path, x)
    (tmp_path / "w.bin").unlink()

    with pytest.raises(ModelError, match=r"w\.bin"):
        load_student(path, x)
