"""ONNX files as teachers."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgedistill.errors import ModelError, ShapeError
from edgedistill.teachers import OnnxClassifier

C, T, K = 2, 5, 3
WEIGHT = np.arange(C * T * K, dtype=np.float32).reshape(C * T, K) / 10


def expected(x: np.ndarray) -> np.ndarray:
    return x.reshape(len(x), -1) @ WEIGHT[: x[0].size]


@pytest.fixture
def x(rng) -> np.ndarray:
    return rng.normal(size=(5, C, T)).astype(np.float32)


def write(
    path: Path,
    *,
    shape: tuple[int | str, ...] = ("batch", C, T),
    dtype: int = TensorProto.FLOAT,
    weight: np.ndarray = WEIGHT,
    inputs: int = 1,
) -> Path:
    """Write a linear model of one flattened series; more inputs are added up."""
    names = [f"series{i}" for i in range(inputs)]
    kind = helper.tensor_dtype_to_np_dtype(dtype)
    graph = helper.make_graph(
        [
            helper.make_node("Sum", names, ["total"]),
            helper.make_node("Flatten", ["total"], ["flat"]),
            helper.make_node("MatMul", ["flat", "weight"], ["logits"]),
            helper.make_node("Neg", ["logits"], ["negated"]),
        ],
        "linear",
        [helper.make_tensor_value_info(name, dtype, shape) for name in names],
        [helper.make_tensor_value_info(n, dtype, None) for n in ("logits", "negated")],
        [numpy_helper.from_array(weight.astype(kind), "weight")],
    )
    opset = helper.make_opsetid("", 20)
    onnx.save(helper.make_model(graph, opset_imports=[opset], ir_version=10), path)
    return path


@pytest.mark.parametrize(
    "dtype", [TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16], ids=str
)
def test_logits_are_float32_for_every_dtype_of_the_file(dtype, x, tmp_path):
    teacher = OnnxClassifier(write(tmp_path / "m.onnx", dtype=dtype), classes=K)

    logits = teacher.logits(x)

    np.testing.assert_allclose(logits, expected(x), atol=0.02 if dtype == 10 else 1e-5)
    assert logits.dtype == np.float32
    assert teacher.name == "m.onnx"


@pytest.mark.parametrize("batch", [1, 2, 7])
def test_fixed_batch_size_is_filled_up(batch, x, tmp_path):
    """Five series through a file that takes exactly 1, 2 or 7."""
    teacher = OnnxClassifier(write(tmp_path / "m.onnx", shape=(batch, C, T)), classes=K)

    np.testing.assert_allclose(teacher.logits(x), expected(x), rtol=1e-5, atol=1e-5)


def test_file_of_rank_two_takes_one_channel(x, tmp_path):
    teacher = OnnxClassifier(
        write(tmp_path / "m.onnx", shape=("n", T), weight=WEIGHT[:T]), classes=K
    )

    np.testing.assert_allclose(teacher.logits(x[:, :1]), expected(x[:, :1]), rtol=1e-5, atol=1e-5)
    with pytest.raises(ShapeError, match=r"series of one channel; these have 2"):
        teacher.logits(x)


def test_named_output_is_taken(x, tmp_path):
    path = write(tmp_path / "m.onnx")

    logits = OnnxClassifier(path, classes=K, output="negated").logits(x)

    np.testing.assert_allclose(logits, -expected(x), rtol=1e-5, atol=1e-5)
    with pytest.raises(ModelError, match=r"no output 'probs'. It has logits, negated"):
        OnnxClassifier(path, classes=K, output="probs")


def test_survives_pickling(x, tmp_path):
    teacher = OnnxClassifier(write(tmp_path / "m.onnx"), classes=K)

    again = pickle.loads(pickle.dumps(teacher))

    np.testing.assert_array_equal(again.logits(x), teacher.logits(x))


def test_truncated_file_is_named(tmp_path):
    path = write(tmp_path / "m.onnx")
    path.write_bytes(path.read_bytes()[:-40])

    with pytest.raises(ModelError, match=r"cannot open .*m\.onnx: .*export the file again"):
        OnnxClassifier(path, classes=K)


def test_two_inputs_are_refused(tmp_path):
    with pytest.raises(ModelError, match=r"takes series0 .*, series1 .*one input of floats"):
        OnnxClassifier(write(tmp_path / "m.onnx", inputs=2), classes=K)


def test_series_of_another_length_are_refused(x, tmp_path):
    teacher = OnnxClassifier(write(tmp_path / "m.onnx"), classes=K)

    with pytest.raises(ShapeError, match=r"takes series of shape \(2, 5\); these are \(2, 4\)"):
        teacher.logits(x[:, :, :4])


def test_failure_inside_the_file_names_it(x, tmp_path):
    """The axes are free, so only the multiplication fails."""
    teacher = OnnxClassifier(write(tmp_path / "m.onnx", shape=("n", "c", "t")), classes=K)

    with pytest.raises(ModelError, match=r"fails on series of shape \(5, 2, 4\)"):
        teacher.logits(x[:, :, :4])


def test_labels_are_no_logits(x, tmp_path):
    """Converters of scikit-learn write them first; of two classes they look like one column."""
    model = onnx.load(write(tmp_path / "m.onnx"))
    model.graph.node.append(helper.make_node("ArgMax", ["logits"], ["label"], axis=1, keepdims=0))
    del model.graph.output[:]
    model.graph.output.append(helper.make_tensor_value_info("label", TensorProto.INT64, ["n"]))
    onnx.save(model, tmp_path / "m.onnx")

    with pytest.raises(ModelError, match=r"Output label .*is no tensor of logits.*kind int64"):
        OnnxClassifier(tmp_path / "m.onnx", classes=1).logits(x)


def test_dictionary_output_is_refused(x, tmp_path):
    """Converters of scikit-learn write one by default."""
    model = onnx.load(write(tmp_path / "m.onnx"))
    node = helper.make_node(
        "ZipMap", ["logits"], ["map"], domain="ai.onnx.ml", classlabels_int64s=[0, 1, 2]
    )
    model.graph.node.append(node)
    model.opset_import.append(helper.make_opsetid("ai.onnx.ml", 3))
    value = helper.make_map_type_proto(
        TensorProto.INT64, helper.make_tensor_type_proto(TensorProto.FLOAT, None)
    )
    model.graph.output.append(helper.make_value_info("map", helper.make_sequence_type_proto(value)))
    onnx.save(model, tmp_path / "m.onnx")

    with pytest.raises(ModelError, match=r"Output map .*is no tensor"):
        OnnxClassifier(tmp_path / "m.onnx", classes=K, output="map").logits(x)
