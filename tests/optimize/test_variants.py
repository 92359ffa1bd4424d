"""Every variant was run before it is there, and describes itself truly."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper, parser
from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

from edgedistill.errors import ConfigError, DataError, ModelError, VerificationError
from edgedistill.evaluation.contract import Contract
from edgedistill.evaluation.metrics import Estimate
from edgedistill.optimize import variants as optimize
from edgedistill.optimize.emulation import Emulation
from edgedistill.optimize.execution import logits
from edgedistill.optimize.optimize import SearchPlan
from edgedistill.optimize.optimize import optimize as optimize_file
from edgedistill.optimize.variant_folder import open_failures, open_variants
from edgedistill.optimize.variants import PRECISIONS, variants


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


CASES = {  # bodies between a convolution c and the dense layer that reads r
    "resize": ("r = Resize(c, , scales)", 17),
    "double": (
        """d = Cast<to = 11>(c) m = ReduceMean<axes = [2]>(d) s = Cast<to = 1>(m) z = Sub(c, s)
        r = Relu(z)""",
        17,
    ),
    "body that reads constants": (
        """n = Constant<value_int = 2>() k = Constant<value_int = 1>() go = Cast<to = 9>(k)
        half = Constant<value_float = 0.5>()
        z = Loop(n, go, c) <
          body = b (int64 i, bool was, float[N,8,60] v) => (bool on, float[N,8,60] u) {
            on = Identity(was) q = Mul(v, half) u = Add(q, c) }>
        r = Max(z, half)""",
        17,
    ),
    "values without elements": (
        """a = Constant<value_ints = [0]>() t = Constant<value_ints = [2]>()
        e = Slice(c, a, a, t) s = ReduceSum(e, t) z = Add(c, s) r = Relu(z)""",
        17,
    ),
    "opset 11": ("r = Relu(c)", 11),
    "opset 7": ("r = Dropout<ratio = 0.5>(c)", 7),
    "opset 24": ("r = Relu(c)", 24),
}


def _foreign(body: str, version: int, path: Path) -> Path:
    """Write a network as another exporter might have."""
    rng = np.random.default_rng(0)
    model = parser.parse_model(
        f"""
        <ir_version: 8, opset_import: ["" : {version}]>
        g (float[N,1,60] x) => (float[N,2] y) {{
          c = Conv<pads = [1, 1]>(x, kernel) {body} g = GlobalAveragePool(r) f = Flatten(g)
          h = MatMul(f, dense) y = MatMul(h, head)
        }}
        """
    )
    shapes = {"kernel": (8, 1, 3), "dense": (8, 64), "head": (64, 2)}
    arrays = {n: rng.normal(size=s).astype(np.float32) / 4 for n, s in shapes.items()}
    arrays["scales"] = np.array([1, 1, 2], np.float32)
    for name, array in arrays.items():
        if name != "scales" or "scales" in body:
            model.graph.initializer.append(numpy_helper.from_array(array, name))
    onnx.save(model, path)
    return path


@pytest.mark.parametrize("kind", CASES)
def test_model_of_another_exporter_has_every_variant(kind, series, tmp_path):
    """For both runtimes, with logits near its own."""
    body, version = CASES[kind]
    path = _foreign(body, version, tmp_path / "foreign.onnx")

    found = variants(
        path, series, tmp_path / "out", PRECISIONS, runtimes=("onnxruntime", "tensorrt")
    )

    assert found.failures == {}
    assert [v.name for v in found] == [
        *("ort-fp32", "ort-fp16", "ort-int8", "ort-w8a16"),
        *("trt-fp32", "trt-fp16", "trt-bf16", "trt-int8", "trt-w8a16"),
    ]
    expected = logits(path, series)
    for variant in found:
        np.testing.assert_allclose(Emulation(variant.path).logits(series), expected, atol=0.05)
    told = "opset 24 stays; boards need a runtime that reads it"
    assert found.notes == ((told if version == 24 else f"raised from opset {version} to 20"),)


def test_precision_that_fails_does_not_keep_the_others(series, tmp_path):
    """A value that is infinite has no range in 8 bits; the error stands under its name."""
    body = "p = Relu(c) l = Log(p) r = Exp(l)"
    path = _foreign(body, 20, tmp_path / "foreign.onnx")

    found = variants(path, series, tmp_path / "out", ("int8", "fp32"))

    assert [v.name for v in found] == ["ort-fp32"]
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["ort-fp32.onnx"]
    assert list(found.failures) == ["ort-int8"]
    assert "is infinite or NaN on a calibration series" in str(found.failures["ort-int8"])


def test_no_precision_that_can_be_made(series, tmp_path):
    """All reasons are listed."""
    model = parser.parse_model(
        """
        <ir_version: 10, opset_import: ["" : 20]>
        g (float[N,1,60] x) => (float[N,60] y) { y = Flatten(x) }
        """
    )
    onnx.save(model, tmp_path / "m.onnx")

    with pytest.raises(ModelError, match=r"None of .* ort-int8: Nothing .* ort-w8a16: No weights"):
        variants(tmp_path / "m.onnx", series, tmp_path / "out", ("int8", "w8a16"))


def test_search_that_cannot_begin_does_not_keep_the_variants(series, tmp_path):
    """A model without anything to quantize has no mixed precision; it has FP32."""
    model = parser.parse_model(
        """
        <ir_version: 10, opset_import: ["" : 20]>
        g (float[N,1,60] x) => (float[N,60] y) { y = Flatten(x) }
        """
    )
    onnx.save(model, tmp_path / "m.onnx")
    out = tmp_path / "out"
    estimates = dict.fromkeys(("agreement", "kl", "latency_p50_ms"), Estimate(1.0, 1.0, 1.0))
    plan = SearchPlan(
        contract=Contract(), measure=lambda _: estimates, context="", validation=len(series)
    )

    optimize_file(
        *(tmp_path / "m.onnx", series, out, tmp_path / "work"), precisions=("fp32",), plan=plan
    )

    assert [model.name for model in open_variants(out)] == ["ort-fp32"]
    assert list(open_failures(out)) == ["ort-mixed"]
    assert "Nothing in this model can be quantized" in open_failures(out)["ort-mixed"]


def test_quantizer_that_fails_is_a_model_error(series, tmp_path, monkeypatch):
    """Whatever ONNX Runtime's quantizer raises."""

    def fail(self: QDQQuantizer) -> None:
        raise KeyError("no such tensor")

    monkeypatch.setattr(QDQQuantizer, "quantize_model", fail)

    with pytest.raises(ModelError, match=r"cannot quantize this model: 'no such tensor'\."):
        variants(
            _foreign("r = Relu(c)", 20, tmp_path / "m.onnx"), series, tmp_path / "out", ("int8",)
        )


def test_optimizer_that_fails_is_a_model_error(series, tmp_path, monkeypatch):
    """Whatever onnxscript's optimizer raises."""

    def fail(*_: object, **__: object) -> None:
        raise AttributeError("no such attribute")

    monkeypatch.setattr("onnxscript.optimizer.optimize", fail)

    with pytest.raises(ModelError, match=r"cannot fold this model: no such attribute\."):
        variants(_foreign("r = Relu(c)", 20, tmp_path / "m.onnx"), series, tmp_path / "out")
