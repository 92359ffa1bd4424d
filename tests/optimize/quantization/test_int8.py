"""INT8 is calibrated on real series or refused, smaller than float, and near it."""

from __future__ import annotations

import logging
import tempfile
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper, parser

from edgedistill.errors import ConfigError, DataError, ModelError, ShapeError
from edgedistill.export.export import export
from edgedistill.models import ModelSpec, build
from edgedistill.optimize.execution import errors, logits, runner
from edgedistill.optimize.passes.fold import fold
from edgedistill.optimize.passes.graph import load, operators
from edgedistill.optimize.quantization.calibration import METHODS
from edgedistill.optimize.quantization.int8 import to_int8
from edgedistill.runtimes.onnxruntime import OrtRuntime

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("family", ["fcn", "lite", "lstm"])
def test_int8_is_near_and_smaller(family, student, series, tmp_path):
    """Within 5 % of the largest logit (of at least 1), fewer bytes, the interface unchanged."""
    folded = fold(load(student(family)))
    path = tmp_path / "int8.onnx"

    quantized = to_int8(folded, series)

    path.write_bytes(quantized.SerializeToString())
    assert quantized.graph.input == folded.graph.input
    assert quantized.graph.output == folded.graph.output
    assert path.stat().st_size < folded.ByteSize()
    _, relative = errors(logits(student(family), series), logits(path, series))
    assert 0 < relative < 0.05


def test_dense_and_convolutional_weights_are_8_bit(student, series):
    """Every convolution and the head read 8-bit weights with a scale per output channel."""
    quantized = to_int8(fold(load(student("fcn"))), series)

    found = operators(quantized)
    weights = [i for i in quantized.graph.initializer if len(i.dims) >= 2]
    assert (found["Conv"], found["Gemm"]) == (3, 1)
    assert {i.data_type for i in weights} == {onnx.TensorProto.INT8}
    assert "Relu" not in found  # the range of an unsigned activation is the same cut at zero


def test_a_fresh_resnet_computes_exactly_on_a_board(series, tmp_path):
    """Its batch norms' scales and variances are one tensor, which the exact mode cannot share."""
    path = tmp_path / "resnet.onnx"
    torch.manual_seed(0)
    export(
        build(ModelSpec(family="resnet", width=4), channels=1, classes=2, length=60), path, series
    )

    folded = fold(load(path))
    path.write_bytes(to_int8(folded, series).SerializeToString())

    assert path.stat().st_size < folded.ByteSize()
    np.testing.assert_allclose(OrtRuntime(path).logits(series), logits(path, series), rtol=1e-5)


def test_lstm_is_quantized_dynamically(student, series):
    """ONNX Runtime's own operator holds 8-bit weights; nothing static is left around the head."""
    found = operators(to_int8(fold(load(student("lstm"))), series))

    assert found["DynamicQuantizeLSTM"] == 1
    assert "LSTM" not in found
    assert "QuantizeLinear" not in found


@pytest.mark.parametrize(("scale", "floats"), [(1.0, []), (-1.0, [[17, 1, 96]])])
def test_fixed_filters_are_8_bit_where_their_norm_folds(scale, floats, series, tmp_path):
    """LITE's norm evens filters of unlike ranges: only folded into them it lets them be 8-bit."""
    torch.manual_seed(0)
    model = build(ModelSpec(family="lite", width=4), channels=1, classes=2, length=60)
    with torch.no_grad():
        model.norm.weight[-3] = scale
        model.norm.bias[-5:] = torch.tensor([-1.0, -0.1, 0.0, 0.1, 1.0])
    export(model, tmp_path / "lite.onnx", series)
    folded = fold(load(tmp_path / "lite.onnx"))

    quantized = to_int8(folded, series)

    weights = [i for i in quantized.graph.initializer if len(i.dims) == 3]
    assert [list(i.dims) for i in weights if i.data_type == onnx.TensorProto.FLOAT] == floats
    assert len(weights) == 8
    assert errors(runner(folded)(series), runner(quantized)(series))[1] < 0.05


@pytest.mark.parametrize(("gamma", "pools"), [((1, -2, 3), 0), (None, 1)], ids=["norm", "none"])
def test_the_mean_of_what_stays_float_is_float(gamma, pools, series, rng):
    """Pooling in 8 bits would bring filters of unlike ranges to one scale after all."""
    norm = "Identity(b)" if gamma is None else "BatchNormalization(b, gamma, zeros, zeros, ones)"
    model = parser.parse_model(
        f"""
        <ir_version: 10, opset_import: ["" : 20]>
        g (float[N,1,60] series) => (float[N,2] logits) {{
          a = Conv<kernel_shape=[1]>(series, w)
          b = Relu(a)
          c = {norm}
          d = ReduceMean<keepdims=0>(c, time)
          logits = MatMul(d, head)
        }}
        """
    )
    constants = {"w": rng.normal(size=(3, 1, 1)), "head": rng.normal(size=(3, 2))}
    constants |= {"gamma": gamma or (1, 1, 1), "zeros": (0, 0, 0), "ones": (1, 1, 1)}
    for name, value in constants.items():
        model.graph.initializer.append(numpy_helper.from_array(np.float32(value), name))
    model.graph.initializer.append(numpy_helper.from_array(np.array([2]), "time"))

    quantized = to_int8(fold(model), series)

    assert operators(quantized).get("GlobalAveragePool", 0) == pools


def test_norm_behind_a_sum_keeps_no_convolution_float(series, rng):
    """Behind a residual sum the ranges are no more those of one filter each."""
    model = parser.parse_model(
        """
        <ir_version: 10, opset_import: ["" : 20]>
        g (float[N,1,60] series) => (float[N,2,60] logits) {
          a = Conv<kernel_shape=[1]>(series, w)
          b = Add(a, a)
          c = BatchNormalization(b, s, s, s, s)
          logits = Relu(c)
        }
        """
    )
    for name, shape in {"w": (2, 1, 1), "s": (2,)}.items():
        values = rng.uniform(0.5, 2.0, size=shape).astype(np.float32)
        model.graph.initializer.append(numpy_helper.from_array(values, name))

    quantized = to_int8(model, series)

    weights = [i for i in quantized.graph.initializer if len(i.dims) == 3]
    assert [i.data_type for i in weights] == [onnx.TensorProto.INT8]


def test_calibration_decides_the_ranges(student, series):
    """Other series give another model: a calibration that is ignored would not."""
    folded = fold(load(student("fcn")))

    first = to_int8(folded, series)
    again = to_int8(folded, series)
    other = to_int8(folded, 3 * series)

    assert first.SerializeToString() == again.SerializeToString()
    assert first.SerializeToString() != other.SerializeToString()


def test_percentile_ignores_an_outlier(student, series, tmp_path):
    """One spike widens the range of minmax, and so its error on all the others."""
    folded = fold(load(student("fcn")))
    spiked = series.copy()
    spiked[0, 0, 30] = 300.0
    expected = logits(student("fcn"), series[1:])
    missed = {}
    for method in METHODS:
        path = tmp_path / f"{method}.onnx"

        path.write_bytes(to_int8(folded, spiked, method=method).SerializeToString())

        missed[method] = errors(expected, logits(path, series[1:]))[0]
    assert missed["percentile"] < 0.5 * missed["minmax"]


def test_reduced_range_uses_seven_bits(student, series):
    """No weight is beyond 64, so that two products fit in 16 bits."""
    folded = fold(load(student("fcn")))

    full = _largest_weight(to_int8(folded, series))
    reduced = _largest_weight(to_int8(folded, series, reduce_range=True))

    assert (full, reduced) == (127, 64)


def test_kept_nodes_have_float_weights(student, series):
    """Only those that are named; the other weights are 8-bit."""
    folded = fold(load(student("fcn")))

    quantized = to_int8(folded, series, keep=frozenset({"Conv_1", "Gemm_0"}))

    held = {tuple(i.dims): i.data_type for i in quantized.graph.initializer if len(i.dims) >= 2}
    assert held == {
        (16, 1, 8): onnx.TensorProto.INT8,
        (32, 16, 5): onnx.TensorProto.FLOAT,
        (16, 32, 3): onnx.TensorProto.INT8,
        (2, 16): onnx.TensorProto.FLOAT,
    }


def test_an_old_opset_is_brought_up_to_scales_a_channel(student, series, tmp_path):
    """Opset 11 has no Q/DQ with a scale a channel; the model is converted."""
    model = parser.parse_model(
        """
        <ir_version: 6, opset_import: ["" : 11]>
        g (float[N,1,60] series) => (float[N,2,60] logits) {
          logits = Conv<kernel_shape=[1]>(series, w)
        }
        """
    )
    weight = np.ones((2, 1, 1), dtype=np.float32)
    model.graph.initializer.append(numpy_helper.from_array(weight, "w"))

    quantized = to_int8(model, series)

    assert quantized.opset_import[0].version == 13
    scales = [i for i in quantized.graph.initializer if list(i.dims) == [2]]
    assert scales


def test_all_nodes_in_float_is_no_int8(student, series):
    with pytest.raises(ModelError, match="of which LSTM_0 are to stay float"):
        to_int8(fold(load(student("lstm"))), series, keep=frozenset({"LSTM_0"}))


def test_names_stay_those_of_the_float_model(student, series):
    """Activations can be compared by name; what the quantizer added has short names."""
    folded = fold(load(student("fcn")))
    activations = {name for node in folded.graph.node for name in node.output}

    quantized = to_int8(folded, series)

    names = {name for node in quantized.graph.node for name in node.output}
    assert {"relu", "relu_1", "relu_2", "mean", "logits"} <= names & activations
    assert max(len(name) for name in names - activations - {"mean_pooled"}) <= 4


@pytest.mark.parametrize("shape", [(0, 1, 60), (1, 60)], ids=str)
def test_no_calibration(shape, student):
    """Without series there is no INT8 model."""
    with pytest.raises(DataError, match="INT8 calibration needs at least one series") as caught:
        to_int8(fold(load(student("fcn"))), np.zeros(shape, dtype=np.float32))

    assert caught.value.exit_code == 3


def test_calibration_that_is_not_finite(student, series):
    """One NaN would make every range NaN."""
    broken = series.copy()
    broken[0, 0, 0] = np.nan

    with pytest.raises(DataError, match="float32 with 1 values that are not finite"):
        to_int8(fold(load(student("fcn"))), broken)


def test_calibration_of_another_shape(student, series):
    """Series prepared for another model are refused before they are run."""
    with pytest.raises(ShapeError, match=r"have shape \(1, 30\) but the model takes \(1, 60\)"):
        to_int8(fold(load(student("fcn"))), np.ascontiguousarray(series[:, :, :30]))


def test_unknown_method(student, series):
    """The known ones are listed."""
    with pytest.raises(ConfigError, match="Choose from minmax, percentile, entropy"):
        to_int8(fold(load(student("fcn"))), series, method="guess")


def test_nothing_to_quantize(series):
    """A model without weights is refused instead of called INT8."""
    model = parser.parse_model(
        """
        <ir_version: 10, opset_import: ["" : 20]>
        g (float[N,1,60] series) => (float[N,1] logits) {
          logits = ReduceMean<keepdims=0>(series, axis)
        }
        """
    )
    model.graph.initializer.append(
        onnx.helper.make_tensor("axis", onnx.TensorProto.INT64, [1], [2])
    )

    with pytest.raises(ModelError, match="Nothing in this model can be quantized: it has Reduce"):
        to_int8(model, series)


@pytest.mark.parametrize("method", METHODS)
def test_it_works_quietly_and_leaves_nothing(
    method, student, series, monkeypatch, tmp_path, caplog, capfd
):
    """No advice on the console, no file in the temporary folder, the log level as it was."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    level = logging.getLogger().level

    to_int8(fold(load(student("fcn"))), series, method=method)

    assert caplog.messages == []
    assert capfd.readouterr() == ("", "")
    assert list(Path(tmp_path).iterdir()) == []
    assert logging.getLogger().level == level


def _largest_weight(model: onnx.ModelProto) -> int:
    weights = [i for i in model.graph.initializer if len(i.dims) >= 2]
    return max(int(np.abs(numpy_helper.to_array(w).astype(int)).max()) for w in weights)
