"""INT8 gives the values of a board on every workstation."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper, parser

from edgedistill.errors import ModelError
from edgedistill.teachers import OnnxClassifier
from edgedistill.teachers.exact_session import exact_session

SATURATING = """
    <ir_version: 10, opset_import: ["" : 21]>
    net (float[N, 1, 8] series) => (float[N, 2] logits)
    <float scale = {1.0}, uint8 zero = {0}, int8[2] zeros = {0, 0}, float[2] scales = {1.0, 1.0}>
    {
        flat = Flatten(series)
        q = QuantizeLinear(flat, scale, zero)
        x = DequantizeLinear(q, scale, zero)
        w = DequantizeLinear<axis: int = 0>(weight, scales%s)
        logits = Gemm<transB: int = 1>(x, w)
    }
"""


def _model(*, zero_points: bool) -> onnx.ModelProto:
    """Pairs of products whose sums are above 16 bits: 2 x 255 x 127 is 64,770."""
    model = parser.parse_model(SATURATING % (", zeros" if zero_points else ""))
    weight = np.full((2, 8), 127, np.int8)
    model.graph.initializer.append(numpy_helper.from_array(weight, "weight"))
    return model


@pytest.mark.parametrize("zero_points", [True, False])
@pytest.mark.parametrize("kind", ["file", "model"])
def test_large_products_do_not_saturate(zero_points, kind, tmp_path):
    """Also where the weights of a file have no zero points, which the mode alone breaks."""
    model = _model(zero_points=zero_points)
    path = tmp_path / "model.onnx"
    path.write_bytes(model.SerializeToString())
    series = np.full((3, 1, 8), 255, np.float32)

    session = exact_session(path if kind == "file" else model, onnxruntime.SessionOptions())

    (logits,) = session.run(None, {"series": series})
    np.testing.assert_array_equal(logits, np.full((3, 2), 8 * 255 * 127, np.float32))


def test_weights_that_two_operators_read_do_not_saturate():
    """As a batch norm's scale and variance, which the quantizer makes one tensor."""
    model = _model(zero_points=True)
    model.graph.node[-1].output[0] = "left"
    second = onnx.NodeProto()
    second.CopyFrom(model.graph.node[-1])
    second.output[0] = "right"
    add = onnx.helper.make_node("Add", ["left", "right"], ["logits"])
    model.graph.node.extend([second, add])

    session = exact_session(model, onnxruntime.SessionOptions())

    (logits,) = session.run(None, {"series": np.full((3, 1, 8), 255, np.float32)})
    np.testing.assert_array_equal(logits, np.full((3, 2), 2 * 8 * 255 * 127, np.float32))


def test_zero_points_that_two_weights_share_are_no_hindrance():
    """Other tools write one tensor of zeros for all."""
    model = _model(zero_points=True)
    model.graph.node[-1].output[0] = "left"
    weight, second = (onnx.NodeProto() for _ in range(2))
    weight.CopyFrom(model.graph.node[-2])
    weight.input[0], weight.output[0] = "weight2", "w2"
    second.CopyFrom(model.graph.node[-1])
    second.input[1], second.output[0] = "w2", "right"
    add = onnx.helper.make_node("Add", ["left", "right"], ["logits"])
    model.graph.initializer.append(
        numpy_helper.from_array(np.full((2, 8), 127, np.int8), "weight2")
    )
    model.graph.node.extend([weight, second, add])

    session = exact_session(model, onnxruntime.SessionOptions())

    (logits,) = session.run(None, {"series": np.full((3, 1, 8), 255, np.float32)})
    np.testing.assert_array_equal(logits, np.full((3, 2), 2 * 8 * 255 * 127, np.float32))


def test_a_teacher_in_int8_is_exact_too(tmp_path):
    """Its file may come from a tool that writes no zero points."""
    path = tmp_path / "teacher.onnx"
    path.write_bytes(_model(zero_points=False).SerializeToString())

    logits = OnnxClassifier(path, classes=2).logits(np.full((3, 1, 8), 255, np.float32))

    np.testing.assert_array_equal(logits, np.full((3, 2), 8 * 255 * 127, np.float32))


def test_a_damaged_file_is_named_by_the_runtime(tmp_path):
    """The search for zero points hides no error."""
    path = tmp_path / "broken.onnx"
    path.write_bytes(b"no model")

    with pytest.raises(ModelError, match=r"cannot open .*broken\.onnx"):
        OnnxClassifier(path, classes=2)
