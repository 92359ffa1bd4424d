"""The emulation of a 16-bit device, against NumPy's and ml_dtypes' own rounding."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import numpy_helper, parser

from edgedistill.errors import ModelError
from edgedistill.optimize.emulation import Emulation, emulate
from edgedistill.optimize.execution import logits, runner
from edgedistill.optimize.float16 import to_bf16, to_fp16
from edgedistill.optimize.passes.fold import fold
from edgedistill.optimize.passes.graph import load
from edgedistill.optimize.passes.verified_passes import static_batch
from edgedistill.optimize.quantization.symmetric import to_int8_symmetric, to_w8a16


def _product() -> onnx.ModelProto:
    model = parser.parse_model(
        """
        <ir_version: 10, opset_import: ["" : 20]>
        g (float[N,1,8] x) => (float[N,1,8] y) {
          a = Mul(x, weight)
          b = Relu(a)
          y = Add(b, weight)
        }
        """
    )
    model.graph.initializer.append(numpy_helper.from_array(np.float32(1.2345678), "weight"))
    return model


@pytest.mark.parametrize("half", [np.float16, ml_dtypes.bfloat16], ids=["fp16", "bf16"])
def test_rounds_after_every_operator(half, rng):
    """Bit for bit what the type itself gives, operator by operator."""
    x = rng.normal(size=(5, 1, 8)).astype(np.float32)
    model = to_fp16(_product(), x) if half is np.float16 else to_bf16(_product())

    found = runner(emulate(model))(x)

    weight = np.float32(1.2345678).astype(half)
    a = (x.astype(half).astype(np.float32) * np.float32(weight)).astype(half)
    y = (np.maximum(a.astype(np.float32), 0) + np.float32(weight)).astype(half)
    np.testing.assert_array_equal(found, y.astype(np.float32))


def test_onnx_runtime_itself_does_not_round(rng):
    """Why there is an emulation: the file as it is keeps digits that a device would not."""
    x = rng.normal(size=(5, 1, 8)).astype(np.float32)
    model = to_fp16(_product(), x)

    assert (runner(model)(x) != runner(emulate(model))(x)).any()


def test_bfloat16_convolutions_do_not_run_as_they_are(student, series, tmp_path):
    """The other reason. When this fails, ONNX Runtime supports it."""
    path = tmp_path / "bf16.onnx"
    path.write_bytes(to_bf16(fold(load(student("fcn")))).SerializeToString())

    with pytest.raises(ModelError, match="cannot run"):
        logits(path, series)
    assert Emulation(path).logits(series).shape == (40, 2)


@pytest.mark.parametrize("family", ["fcn", "lite", "lstm"])
def test_every_family_in_16_bits(family, student, series):
    """No 16-bit value is left but between the casts that round."""
    folded = fold(load(student(family)))
    for model in (to_fp16(folded, series), to_bf16(folded), to_w8a16(folded, series)):
        result = emulate(model)

        halves = {onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16}
        assert not any(i.data_type in halves for i in result.graph.initializer)
        assert (result.graph.input, result.graph.output) == (model.graph.input, model.graph.output)
        near = runner(folded)(series)
        np.testing.assert_allclose(runner(result)(series), near, atol=0.05)


def test_32_and_8_bits_stay_as_they_are(student, series):
    folded = fold(load(student("fcn")))
    quantized = to_int8_symmetric(folded, series)

    assert emulate(folded).graph == folded.graph
    assert emulate(quantized).graph == quantized.graph


def test_a_runtime_for_any_number_of_series(student, series, tmp_path):
    """Of a file with a fixed batch too, and it describes itself."""
    path = tmp_path / "fixed.onnx"
    fixed, _ = static_batch(16)(load(student("fcn")))
    path.write_bytes(fixed.SerializeToString())

    found = Emulation(path)

    np.testing.assert_allclose(found.logits(series), logits(student("fcn"), series), atol=1e-5)
    assert (found.name, found.classes) == ("emulation", 2)
    assert found.describe().keys() == {"runtime"}
