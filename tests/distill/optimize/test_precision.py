"""FP16 has half the bytes, float32 at both ends, and float32 inside only where it must."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import numpy_helper, parser

from edgedistill.distill.optimize.execution import errors, logits
from edgedistill.distill.optimize.graph import fold, load, operators
from edgedistill.distill.optimize.precision import to_fp16
from edgedistill.errors import DataError, ModelError

ONES = np.ones((1, 1, 4), dtype=np.float32)


@pytest.mark.parametrize("family", ["fcn", "lite", "lstm"])
def test_half_precision_is_near_and_half_the_size(family, student, series, tmp_path):
    """Within 1e-3 of the largest logit, with the interface of the float model."""
    folded = fold(load(student(family)))
    path = tmp_path / "half.onnx"

    half = to_fp16(folded, series)

    path.write_bytes(half.SerializeToString())
    assert half.graph.input == folded.graph.input
    assert half.graph.output == folded.graph.output
    assert operators(half) == operators(folded) | {"Cast": 2}
    assert {i.data_type for i in half.graph.initializer} <= {
        onnx.TensorProto.FLOAT16,
        onnx.TensorProto.INT64,
    }
    assert path.stat().st_size < 0.7 * folded.ByteSize()
    _, relative = errors(logits(student(family), series), logits(path, series))
    assert 0 < relative < 1e-3


def _scaled(weight: float) -> onnx.ModelProto:
    """Return relu(x) * weight / weight, where only the middle may need float32."""
    model = parser.parse_model(
        """
        <ir_version: 10, opset_import: ["" : 20]>
        g (float[N,1,4] x) => (float[N,1,4] y) {
          a = Relu(x)
          b = Mul(a, weight)
          c = Div(b, weight)
          y = Add(c, c)
        }
        """
    )
    model.graph.initializer.append(numpy_helper.from_array(np.float32(weight), "weight"))
    return model


@pytest.mark.parametrize("weight", [1e6, 1e-6], ids=str)
def test_constant_out_of_range_stays_in_single_precision(weight, tmp_path):
    """Its two nodes become float32 between casts; a plain conversion would give inf or nothing."""
    path = tmp_path / "island.onnx"
    x = ONES * np.float32(0.01 if weight > 1 else 100.0)

    half = to_fp16(_scaled(weight), x)

    path.write_bytes(half.SerializeToString())
    kept = {i.name: i.data_type for i in half.graph.initializer}
    assert kept == {"weight": onnx.TensorProto.FLOAT}
    assert operators(half)["Cast"] == 2 + 4  # the two ends, and both sides of two nodes
    np.testing.assert_allclose(logits(path, x), 2 * x, rtol=2e-3)


def test_ordinary_constant_makes_no_island():
    """What float16 holds is converted."""
    half = to_fp16(_scaled(3.0), ONES)

    assert operators(half)["Cast"] == 2
    assert half.graph.initializer[0].data_type == onnx.TensorProto.FLOAT16


def test_island_at_both_ends(tmp_path):
    """A node that is first and last and reads its input twice keeps the interface."""
    model = parser.parse_model(
        """
        <ir_version: 10, opset_import: ["" : 20]>
        g (float[N,1,4] x) => (float[N,1,4] y) { y = Sum(x, x, weight) }
        """
    )
    model.graph.initializer.append(numpy_helper.from_array(np.float32(1e-6), "weight"))
    path = tmp_path / "ends.onnx"

    half = to_fp16(model, ONES)

    path.write_bytes(half.SerializeToString())
    assert half.graph.output[0].type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    assert logits(path, np.zeros((1, 1, 4), dtype=np.float32)).shape == (1, 1, 4)


def test_operator_without_half_precision():
    """A graph with types of its own making is refused, not written half converted."""
    model = parser.parse_model(
        """
        <ir_version: 10, opset_import: ["" : 20]>
        g (float[N,1,4] x) => (float[N,1,4] y) {
          k = Shape(x)
          f = Cast<to=1>(k)
          m = ReduceMax<keepdims=0>(f)
          y = Mul(x, m)
        }
        """
    )

    with pytest.raises(ModelError, match="The FP16 model breaks the ONNX rules"):
        to_fp16(model, ONES)


def test_values_beyond_the_range_of_half_precision():
    """They would be infinite on a device that computes in float16, though not on this CPU."""
    with pytest.raises(ModelError, match=r"reaches 8e\+04 on the calibration series; FP16 holds"):
        to_fp16(_scaled(1e5), 0.8 * ONES)


def test_no_series_to_check_the_range_with():
    """Without series nothing is known about the range."""
    with pytest.raises(DataError, match="FP16 range check needs at least one series"):
        to_fp16(_scaled(3.0), ONES[:0])
