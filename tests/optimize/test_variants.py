"""Every variant was run before it is there, and describes itself truly."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from edgedistill.errors import ConfigError, DataError, ModelError, VerificationError
from edgedistill.optimize import variants as optimize
from edgedistill.optimize.emulation import Emulation
from edgedistill.optimize.execution import logits
from edgedistill.optimize.variants import variants


@pytest.mark.parametrize("family", ["fcn", "lstm"])
def test_one_whole_file_a_precision(family, student, series, tmp_path):
    """Three files, each smaller than the one before, with one parameter count."""
    found = variants(student(family), series, tmp_path)

    assert [v.name for v in found] == ["ort-fp32", "ort-fp16", "ort-int8"]
    assert [v.precision for v in found] == ["fp32", "fp16", "int8"]
    assert {v.runtime for v in found} == {"onnxruntime"}
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(v.path.name for v in found)
    assert [v.size_bytes for v in found] == [v.path.stat().st_size for v in found]
    assert found[0].size_bytes > found[1].size_bytes > found[2].size_bytes
    assert len({v.parameters for v in found}) == 1
    for variant in found:
        nodes = onnx.load(variant.path).graph.node
        assert sum(variant.operators.values()) == len(nodes)
        assert logits(variant.path, series[:1]).shape == (1, 2)


def test_only_what_is_asked_for(student, series, tmp_path):
    """One precision, one file."""
    found = variants(student("fcn"), series, tmp_path, ("fp16",))

    assert [v.path.name for v in found] == ["ort-fp16.onnx"]
    assert [p.name for p in tmp_path.iterdir()] == ["ort-fp16.onnx"]


def test_unknown_precision(student, series, tmp_path):
    """The known ones are listed, and nothing is written."""
    with pytest.raises(
        ConfigError, match=r"no precision 'int4'\. Choose from fp32, fp16, bf16, int8"
    ):
        variants(student("fcn"), series, tmp_path, ("fp32", "int4"))

    assert list(tmp_path.iterdir()) == []


def test_no_series_to_check_with(student, series, tmp_path):
    """Without real series nothing is called checked."""
    with pytest.raises(DataError, match="needs at least one series"):
        variants(student("fcn"), series[:0], tmp_path, ("fp32",))


def test_truncated_model(student, series, tmp_path):
    """A student's file that is cut short makes no variants."""
    path = tmp_path / "cut.onnx"
    path.write_bytes(student("fcn").read_bytes()[:1000])

    with pytest.raises(ModelError, match="cut short"):
        variants(path, series, tmp_path / "out")

    assert not (tmp_path / "out").exists()


def test_fp32_that_computes_something_else_is_not_kept(student, series, tmp_path, monkeypatch):
    """A planted slip after the passes is found on real series, and no file looks good."""

    def slipping(model: onnx.ModelProto) -> onnx.ModelProto:
        bias = next(i for i in model.graph.initializer if i.name == "head.bias")
        values = numpy_helper.to_array(bias) + np.float32(1e-3)
        bias.CopyFrom(numpy_helper.from_array(values, "head.bias"))
        return model

    monkeypatch.setattr(optimize, "_typed", lambda model, *_: slipping(model))

    with pytest.raises(VerificationError, match=r"The FP32 variant misses .* by 0\.001") as caught:
        variants(student("fcn"), series, tmp_path, ("fp32",))

    assert caught.value.exit_code == 4
    assert list(tmp_path.iterdir()) == []


def test_fp16_that_overflows_is_not_kept(student, series, tmp_path):
    """If every value is beyond 65504 there is no half precision, and no file."""
    with pytest.raises(ModelError, match="leave fp16 out of the precisions"):
        variants(student("fcn"), 1e9 * series, tmp_path, ("fp16",))

    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("family", "made"),
    [
        ("fcn", ["ort-fp32", "ort-int8", "trt-fp32", "trt-bf16", "trt-int8"]),
        ("lstm", ["ort-fp32", "ort-int8", "trt-fp32", "trt-bf16"]),  # INT8 is for ONNX Runtime
    ],
)
def test_two_runtimes(family, made, student, series, tmp_path):
    """Each gets the precisions that it has a form of, under its own name."""
    found = variants(
        *(student(family), series, tmp_path, ("fp32", "bf16", "int8")),
        runtimes=("onnxruntime", "tensorrt"),
    )

    assert [v.name for v in found] == made
    runtimes = {"ort": "onnxruntime", "trt": "tensorrt"}
    assert [v.runtime for v in found] == [runtimes[v.name[:3]] for v in found]
    assert len({v.parameters for v in found}) == 1
    expected = logits(student(family), series)
    for variant in found[-1:]:
        assert variant.path.name == f"{variant.name}.onnx"
        given = Emulation(variant.path).logits(series)
        np.testing.assert_allclose(given, expected, atol=0.1)


def test_an_8_bit_lstm_for_tensorrt_alone(student, series, tmp_path):
    """It is refused, with what to choose in its place."""
    with pytest.raises(ModelError, match=r"no INT8 arithmetic for an LSTM\. Choose w8a16"):
        variants(student("lstm"), series, tmp_path, ("int8",), runtimes=("tensorrt",))

    assert list(tmp_path.iterdir()) == []


def test_fixed_batch_is_for_tensorrt(student, series, tmp_path):
    """ONNX Runtime's file takes any number of series, TensorRT's exactly that many."""
    found = variants(
        *(student("fcn"), series, tmp_path, ("fp32", "fp16", "int8")),
        runtimes=("onnxruntime", "tensorrt"),
        batch=3,
    )

    sizes = [onnx.load(v.path).graph.input[0].type.tensor_type.shape.dim[0] for v in found]
    assert [size.dim_value for size in sizes] == [0, 0, 0, 3, 3, 3]
    for variant in found[3:]:
        given = Emulation(variant.path).logits(series[:4])
        np.testing.assert_allclose(given, logits(found[0].path, series[:4]), atol=0.05)


def test_nodes_that_stay_single_are_named(student, series, tmp_path):
    """Series whose values leave the range of float16 inside the model make islands."""
    found = variants(student("fcn"), 3e4 * series, tmp_path, ("fp32", "fp16"))

    assert found[0].single == ()
    assert 0 < len(found[1].single) < sum(found[0].operators.values())
