"""INT8 and W8A16 as TensorRT takes them: zero in the middle, weights stored in 8 bits."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import numpy_helper, parser

from edgedistill.errors import ConfigError, DataError, ModelError
from edgedistill.optimize.emulation import emulate
from edgedistill.optimize.execution import errors, open_model, runner
from edgedistill.optimize.float16 import single_precision, to_fp16
from edgedistill.optimize.passes.fold import fold
from edgedistill.optimize.passes.graph import load, operators
from edgedistill.optimize.quantization.calibration import METHODS
from edgedistill.optimize.quantization.symmetric import _quantized, to_int8_symmetric, to_w8a16

TYPES = onnx.TensorProto


def _constants(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    return {i.name: numpy_helper.to_array(i) for i in model.graph.initializer}


@pytest.mark.parametrize("family", ["fcn", "lite"])
def test_int8_is_near_and_keeps_the_interface(family, student, series):
    """Within 2 % of the largest logit (of at least 1)."""
    folded = fold(load(student(family)))

    quantized = to_int8_symmetric(folded, series)

    assert quantized.graph.input == folded.graph.input
    assert quantized.graph.output == folded.graph.output
    _, relative = errors(runner(folded)(series), runner(quantized)(series))
    assert 0 < relative < 0.02


def test_names_that_end_as_ours_do_not_collide():
    """An exporter counts its tensors: `relu` and `relu_8` stand in one ResNet."""
    model = parser.parse_model("""
        <ir_version: 10, opset_import: ["" : 21]>
        net (float[N, 4] relu) => (float[N, 2] logits)
        <float[4, 4] w = {1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1},
         float[4, 2] w_8 = {1, 2, 3, 4, 5, 6, 7, 8}>
        { relu_8 = MatMul(relu, w)
          logits = MatMul(relu_8, w_8) }
    """)
    series = np.random.default_rng(0).normal(size=(8, 4)).astype(np.float32)

    quantized = _quantized(model, {"relu": (-3, 3), "relu_8": (-3, 3)})

    _, relative = errors(runner(model)(series), runner(quantized)(series))
    assert relative < 0.05


def test_every_zero_point_is_zero_and_no_bias_is_quantized(student, series):
    """As TensorRT's parser requires."""
    quantized = to_int8_symmetric(fold(load(student("fcn"))), series)

    constants = _constants(quantized)
    nodes = {
        op: [n for n in quantized.graph.node if n.op_type == op] for op in operators(quantized)
    }
    assert {int(constants[n.input[2]]) for n in nodes["QuantizeLinear"]} == {0}
    assert {constants[n.input[2]].dtype for n in nodes["QuantizeLinear"]} == {np.dtype(np.int8)}
    biases = [constants[n.input[2]] for n in (*nodes["Conv"], *nodes["Gemm"])]
    assert {bias.dtype for bias in biases} == {np.dtype(np.float32)}
    assert not any(a.dtype == np.int32 for a in constants.values())
    # three convolutions and a head, each with its weights and its input
    assert (len(nodes["QuantizeLinear"]), len(nodes["DequantizeLinear"])) == (4, 8)


def test_scales_are_those_of_the_plain_definition(student, series):
    """Largest |value| over 127: of an output channel for weights, of the tensor for activations."""
    folded = fold(load(student("fcn")))
    values, floats = open_model(folded)(series), _constants(folded)

    constants = _constants(to_int8_symmetric(folded, series, method="minmax"))

    for node in folded.graph.node:
        if node.op_type not in ("Conv", "Gemm"):
            continue
        scale = constants[f"{node.input[0]}.scale"]
        assert scale == pytest.approx(np.abs(values[node.input[0]]).max() / 127, rel=1e-6)
        weights, steps = floats[node.input[1]], constants[f"{node.input[1]}.scale"]
        for channel, stored, step in zip(
            weights, constants[f"{node.input[1]}.int8"], steps, strict=True
        ):
            assert step == pytest.approx(np.abs(channel).max() / 127, rel=1e-6)
            assert np.abs(stored).max() == 127
            assert np.abs(stored * step - channel).max() <= 0.51 * step


def test_an_input_that_nodes_share_is_quantized_once(series, rng):
    """Branches read the same rounded values."""
    model = parser.parse_model(
        """
        <ir_version: 10, opset_import: ["" : 20]>
        g (float[N,1,60] x) => (float[N,2,60] y) {
          a = Conv<kernel_shape=[1]>(x, w)
          b = Conv<kernel_shape=[1]>(x, w)
          y = Add(a, b)
        }
        """
    )
    weights = rng.normal(size=(2, 1, 1)).astype(np.float32)
    model.graph.initializer.append(numpy_helper.from_array(weights, "w"))

    quantized = to_int8_symmetric(model, series)

    assert operators(quantized) == {"Add": 1, "Conv": 2, "DequantizeLinear": 2, "QuantizeLinear": 1}


@pytest.mark.parametrize(("flipped", "axis"), [(0, 1), (1, 0)])
def test_dense_weights_have_a_scale_an_output(flipped, axis, series, rng):
    """On whichever axis the outputs are; a channel of zeros stays zero."""
    model = parser.parse_model(
        f"""
        <ir_version: 10, opset_import: ["" : 20]>
        g (float[N,1,60] x) => (float[N,3] y) {{
          f = Flatten<axis=1>(x)
          y = Gemm<transB={flipped}>(f, w, b)
        }}
        """
    )
    weights = rng.normal(size=(3, 60)).astype(np.float32) * np.float32([[1], [100], [0]])
    stored = weights if flipped else np.ascontiguousarray(weights.T)
    for name, values in {"w": stored, "b": np.zeros(3, dtype=np.float32)}.items():
        model.graph.initializer.append(numpy_helper.from_array(values, name))

    quantized = to_int8_symmetric(model, series)

    assert _constants(quantized)["w.scale"].shape == (3,)
    reader = next(n for n in quantized.graph.node if n.output[0] == "w")
    assert [a.i for a in reader.attribute if a.name == "axis"] == [axis]
    found, expected = runner(quantized)(series), runner(model)(series)
    np.testing.assert_allclose(found[:, :2] / [1, 100], expected[:, :2] / [1, 100], atol=0.3)
    assert (found[:, 2] == 0).all()


@pytest.mark.parametrize("method", ["minmax", "percentile"])
def test_percentile_ignores_an_outlier(method, student, series):
    """One spike widens the range of minmax, that of the percentile hardly."""
    folded = fold(load(student("fcn")))
    spiked = series.copy()
    spiked[0, 0, 30] = 300.0

    scale = _constants(to_int8_symmetric(folded, spiked, method=method))["series.scale"]

    assert (scale > 300 / 128) == (method == "minmax")


def test_the_method_is_chosen_by_its_logits(student, series):
    """Nearest to the float model's, on the calibration series; here two of them are spiked."""
    folded = fold(load(student("fcn")))
    spiked = series.copy()
    spiked[:2, 0, 30] = 20.0
    expected = runner(folded)(spiked)

    found = to_int8_symmetric(folded, spiked)

    each = {m: to_int8_symmetric(folded, spiked, method=m) for m in METHODS}
    missed = {m: np.square(runner(one)(spiked) - expected).mean() for m, one in each.items()}
    best = min(missed, key=missed.__getitem__)
    assert len(set(missed.values())) == len(METHODS)
    assert found.SerializeToString() == each[best].SerializeToString()


def test_unknown_method(student, series):
    with pytest.raises(ConfigError, match="no calibration method 'guess'"):
        to_int8_symmetric(fold(load(student("fcn"))), series, method="guess")


@pytest.mark.parametrize("make", [to_int8_symmetric, to_w8a16])
def test_no_calibration(make, student, series):
    """Without series there is no quantized model."""
    with pytest.raises(DataError, match="needs at least one series"):
        make(fold(load(student("fcn"))), series[:0])


def test_int8_of_an_lstm(student, series):
    with pytest.raises(ModelError, match=r"no INT8 arithmetic for an LSTM\. Choose w8a16"):
        to_int8_symmetric(fold(load(student("lstm"))), series)


def test_nothing_to_quantize(series):
    """Weights that are computed are no weights to store."""
    model = parser.parse_model(
        """
        <ir_version: 10, opset_import: ["" : 20]>
        g (float[N,1,60] x) => (float[N,1,1] y) { t = Transpose<perm=[0,2,1]>(x) y = MatMul(x, t) }
        """
    )

    with pytest.raises(ModelError, match=r"it has MatMul, Transpose\. INT8 needs a Conv, Gemm"):
        to_int8_symmetric(model, series)


@pytest.mark.parametrize("family", ["fcn", "lite", "lstm"])
def test_8_bit_weights_with_half_precision(family, student, series):
    """Smaller than FP16, a little further off, and nothing rounds the activations to 8 bits."""
    folded = fold(load(student(family)))
    half = to_fp16(folded, series)

    mixed = to_w8a16(folded, series)

    assert mixed.ByteSize() < half.ByteSize()
    assert mixed.graph.input == folded.graph.input
    assert mixed.graph.output == folded.graph.output
    assert "QuantizeLinear" not in operators(mixed)
    assert single_precision(mixed) == ()
    expected = runner(folded)(series)
    _, relative = errors(expected, runner(emulate(mixed))(series))
    assert 0 < relative < 1e-2


def test_few_weights_stay_in_16_bits(student, series):
    """Where scales and names would weigh more than is saved: LITE's small convolutions."""
    mixed = to_w8a16(fold(load(student("lite"))), series)

    kinds = [i.data_type for i in mixed.graph.initializer if len(i.dims) >= 2]
    assert set(kinds) == {TYPES.FLOAT16, TYPES.INT8}


def test_no_weights_worth_it(series):
    model = parser.parse_model(
        """
        <ir_version: 10, opset_import: ["" : 20]>
        g (float[N,1,60] x) => (float[N,1,60] y) { y = Conv<kernel_shape=[1]>(x, w) }
        """
    )
    model.graph.initializer.append(numpy_helper.from_array(np.ones((1, 1, 1), np.float32), "w"))

    with pytest.raises(
        ModelError, match=r"No weights of this model are so many .* Leave w8a16 out"
    ):
        to_w8a16(model, series)
