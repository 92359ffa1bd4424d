"""FP16 has half the bytes, float32 at both ends, and float32 inside only where it must."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import numpy_helper, parser

from edgedistill.errors import DataError, ModelError
from edgedistill.optimize.emulation import emulate
from edgedistill.optimize.execution import errors, logits, runner
from edgedistill.optimize.float16 import single_precision, to_bf16, to_fp16
from edgedistill.optimize.passes.fold import fold
from edgedistill.optimize.passes.graph import load, operators

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


@pytest.mark.parametrize("family", ["fcn", "lite", "lstm"])
def test_bfloat16_has_the_range_and_fewer_digits(family, student, series):
    """Half the size, the same interface, further off than FP16 and near enough to be it."""
    folded = fold(load(student(family)))

    half = to_bf16(folded)

    assert half.graph.input == folded.graph.input
    assert half.graph.output == folded.graph.output
    assert operators(half) == operators(folded) | {"Cast": 2}
    assert half.opset_import[0].version == 22  # before it, a convolution takes no bfloat16
    assert {i.data_type for i in half.graph.initializer} <= {
        onnx.TensorProto.BFLOAT16,
        onnx.TensorProto.INT64,
    }
    assert half.ByteSize() < 0.7 * folded.ByteSize()
    expected = runner(folded)(series)
    _, relative = errors(expected, runner(emulate(half))(series))
    _, finer = errors(expected, runner(emulate(to_fp16(folded, series)))(series))
    assert finer < relative < 2e-2


def test_bfloat16_needs_no_island():
    """What float16 cannot hold, bfloat16 can."""
    assert operators(to_bf16(_scaled(1e6)))["Cast"] == 2


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
    """Its two nodes stay float32 between casts; a plain conversion would give inf or nothing."""
    path = tmp_path / "island.onnx"
    x = ONES * np.float32(0.01 if weight > 1 else 100.0)

    half = to_fp16(_scaled(weight), x)

    path.write_bytes(half.SerializeToString())
    kept = {i.name: i.data_type for i in half.graph.initializer}
    assert kept == {"weight": onnx.TensorProto.FLOAT}
    assert operators(half)["Cast"] == 2 + 2  # at the two ends, and around the two nodes
    assert single_precision(half) == ("b", "c")
    np.testing.assert_allclose(logits(path, x), 2 * x, rtol=2e-3)


def test_ordinary_constant_makes_no_island():
    """What float16 holds is converted."""
    half = to_fp16(_scaled(3.0), ONES)

    assert operators(half)["Cast"] == 2
    assert half.graph.initializer[0].data_type == onnx.TensorProto.FLOAT16


def test_values_out_of_range_stay_in_single_precision(tmp_path):
    """A value beyond 65504 inside the model passes from one float32 node to the next.

    Between casts to half precision a device would make it infinite, though this CPU would not.
    """
    x = 100 * ONES

    half = to_fp16(_scaled(1000.0), x)

    assert single_precision(half) == ("b", "c")
    np.testing.assert_allclose(runner(emulate(half))(x), 2 * x, rtol=2e-3)
    careless = to_fp16(_scaled(1000.0), ONES)  # on these series nothing leaves the range
    assert single_precision(careless) == ()
    assert np.isinf(runner(emulate(careless))(x)).all()


def test_island_at_both_ends(tmp_path):
    """A node that reads the input twice and one that gives the output keep the interface."""
    model = parser.parse_model(
        """
        <ir_version: 10, opset_import: ["" : 20]>
        g (float[N,1,4] x) => (float[N,1,4] y) {
          a = Sum(x, x, weight)
          b = Relu(a)
          y = Sum(b, weight)
        }
        """
    )
    model.graph.initializer.append(numpy_helper.from_array(np.float32(1e-6), "weight"))

    half = to_fp16(model, ONES)

    assert operators(half)["Cast"] == 2  # around the one node between the islands
    assert half.graph.output == model.graph.output
    np.testing.assert_allclose(runner(half)(ONES), 2 * ONES, rtol=1e-3)


def test_constant_of_an_island_and_of_another_node():
    """It is stored once, in half precision, and an island that shares it reads it through a cast.

    Here the product of 1000 and 1000 is out of range, the sum is not.
    """
    model = parser.parse_model(
        """
        <ir_version: 10, opset_import: ["" : 20]>
        g (float[N,1,4] x) => (float[N,1,4] y) {
          a = Add(x, weight)
          b = Mul(a, weight)
          y = Div(b, weight)
        }
        """
    )
    model.graph.initializer.append(numpy_helper.from_array(np.float32(1000), "weight"))

    half = to_fp16(model, ONES)

    assert [i.data_type for i in half.graph.initializer] == [onnx.TensorProto.FLOAT16]
    assert single_precision(half) == ("b", "y")
    np.testing.assert_allclose(runner(half)(ONES), 1001 * ONES, rtol=1e-3)


def test_no_operator_with_half_precision():
    """A model without a node that takes 16 bits would be FP16 by name alone."""
    model = parser.parse_model(
        """
        <ir_version: 10, opset_import: ["" : 20]>
        g (float[N,1,4] x) => (float[N,1,4] y) { s = SequenceConstruct(x) y = SequenceAt(s, i) }
        """
    )
    model.graph.initializer.append(numpy_helper.from_array(np.int64(0), "i"))

    with pytest.raises(ModelError, match=r"No node .* in FP16: it has SequenceAt, .*fp16"):
        to_fp16(model, ONES)
    with pytest.raises(ModelError, match=r"No node .* in BF16: .*Leave bf16 out"):
        to_bf16(model)


def test_no_node_within_the_range_of_half_precision():
    """A model that would be FP16 by name alone is refused."""
    with pytest.raises(ModelError, match=r"Every node .* is 2e\+06 on .* leave fp16 out"):
        to_fp16(_scaled(1.0), 1e6 * ONES)


def test_no_series_to_check_the_range_with():
    """Without series the range is unknown."""
    with pytest.raises(DataError, match="FP16 range check needs at least one series"):
        to_fp16(_scaled(3.0), ONES[:0])
