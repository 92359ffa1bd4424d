"""What an operator's schema fixes keeps its type, and the rest computes in the new one."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, numpy_helper, parser, shape_inference

from edgedistill.optimize.emulation import emulate
from edgedistill.optimize.execution import runner
from edgedistill.optimize.float16 import single_precision, to_bf16, to_fp16
from edgedistill.optimize.passes.graph import check, operators
from edgedistill.optimize.passes.opset import convert
from edgedistill.optimize.passes.retype import retype, takes
from edgedistill.optimize.quantization.symmetric import to_w8a16


@pytest.fixture
def x(rng) -> np.ndarray:
    return rng.normal(size=(6, 1, 24)).astype(np.float32)


def _model(body: str, length: int = 24) -> onnx.ModelProto:
    """Return a model: a convolution c of x, the body that makes r of it, and a dense layer."""
    rng = np.random.default_rng(0)
    model = parser.parse_model(
        f"""
        <ir_version: 10, opset_import: ["" : 20]>
        g (float[N,1,24] x) => (float[N,2] y) <float zero = {{0}}, float half = {{0.5}}> {{
          c = Conv<pads = [1, 1]>(x, kernel)
          {body}
          f = Flatten(r)
          h = MatMul(f, dense)
          y = MatMul(h, head)
        }}
        """
    )
    kernel = rng.normal(size=(2, 1, 3)).astype(np.float32)
    dense = rng.normal(size=(2 * length, 16)).astype(np.float32) / 8
    head = rng.normal(size=(16, 2)).astype(np.float32) / 4
    for name, array in {"kernel": kernel, "dense": dense, "head": head}.items():
        model.graph.initializer.append(numpy_helper.from_array(array, name))
    return model


LOOP = """
  n = Constant<value_int = 3>() k = Constant<value_int = 1>() go = Cast<to = 9>(k)
  r = Loop(n, go, c) <body = b (int64 i, bool was, float[N,2,24] v) => (bool on, float[N,2,24] u) {
    on = Identity(was) q = Mul(v, half) u = Add(q, c) }>
"""
SCAN = """
  t = Transpose<perm = [2, 0, 1]>(c)
  s = ReduceMax<keepdims = 0>(t)
  last, each = Scan <num_scan_inputs = 1,
    body = b (float v, float[N,2] e) => (float u, float[N,2] h) {
    h = Tanh(e) m = ReduceMean<keepdims = 0>(h) p = Mul(m, half) u = Add(v, p) }>(s, t)
  r = Transpose<perm = [1, 2, 0]>(each)
"""
IF = """
  most = ReduceMax<keepdims = 0>(c) b = Greater(most, half)
  r = If(b) <then_branch = t () => (float[N,2,24] p) { p = Mul(c, half) },
             else_branch = e () => (float[N,2,24] q) { q = Neg(c) }>
"""
# Each body with its nodes that compute in float32, in FP16 and in BF16
BODIES: dict[str, tuple[str, tuple[str, ...], tuple[str, ...]]] = {
    "cast": ("s = Shape(c) i = Cast<to = 1>(s) m = ReduceMin(i) r = Mul(c, m)", (), ()),
    "cast of bool": ("b = Greater(c, zero) m = Cast<to = 1>(b) r = Mul(c, m)", (), ()),
    "double": (
        "d = Cast<to = 11>(c) e = Exp(d) s = Cast<to = 1>(e) r = Sub(c, s)", (), ()
    ),
    "constant of shape": (
        "s = Shape(c) k = ConstantOfShape<value = float[1] {0.5}>(s) r = Add(c, k)", ("k",), ("k",)
    ),
    "eye like": (
        """g = Flatten(c) t = Transpose<perm = [1, 0]>(g) q = MatMul(t, g) e = EyeLike<dtype = 1>(q)
        r = MatMul(g, e)""", ("e",), ("e",)
    ),
    "eye like its input": (
        """g = Flatten(c) t = Transpose<perm = [1, 0]>(g) q = MatMul(t, g) e = EyeLike(q)
        r = MatMul(g, e)""", (), ()
    ),
    "top k": ("k = Constant<value_ints = [24]>() v, i = TopK(c, k) r = Mul(v, half)", (), ("v",)),
    "einsum": ('r = Einsum<equation = "nct->nct">(c)', (), ("r",)),
    "sequence": (
        "s = SplitToSequence<axis = 2>(c) r = ConcatFromSequence<axis = 2>(s)",
        ("s", "r"), ("s", "r"),
    ),
    "quantized": (
        """z = Constant<value = uint8 {128}>() q = QuantizeLinear(c, half, z)
        r = DequantizeLinear(q, half, z)""", (), ()
    ),
    "if": (IF, ("r",), ("r",)),
    "loop": (LOOP, ("r",), ("r",)),
    "scan": (SCAN, ("last",), ("last",)),
}  # fmt: skip


@pytest.mark.parametrize("kind", BODIES)
@pytest.mark.parametrize("half", ["fp16", "bf16", "w8a16"])
def test_types_that_are_fixed_stay(kind, half, x):
    """The file is valid, runs or can be emulated, and names the nodes that stay float32."""
    body, single, single_in_bf16 = BODIES[kind]
    model = _model(body)
    make = {"fp16": lambda: to_fp16(model, x), "bf16": lambda: to_bf16(model)}
    result = make[half]() if half in make else to_w8a16(model, x)

    check(result, "The model")
    assert single_precision(result) == (single_in_bf16 if half == "bf16" else single)
    assert result.graph.input == model.graph.input
    assert result.graph.output == model.graph.output
    expected = runner(model)(x)
    near = 0.1 if half == "bf16" else 0.02
    np.testing.assert_allclose(runner(emulate(result))(x), expected, atol=near)
    if half != "bf16":  # which ONNX Runtime's CPU does not run
        np.testing.assert_allclose(runner(result)(x), expected, atol=near)


@pytest.mark.parametrize("half", ["fp16", "bf16"])
def test_scales_of_a_resize_stay_exact(half, x):
    """In half precision 29 / 24 would give 28 time steps. A constant of both uses comes twice."""
    model = _model(
        "u = Resize(c, , scales) m = ReduceMax<keepdims = 0>(scales) r = Mul(u, m)", length=29
    )
    scales = np.array([1, 1, 29 / 24], np.float32)
    model.graph.initializer.append(numpy_helper.from_array(scales, "scales"))

    result = to_fp16(model, x) if half == "fp16" else to_bf16(model)

    kept = {i.name: i for i in result.graph.initializer}
    name = "float16" if half == "fp16" else "bfloat16"
    assert kept["scales"].data_type == TensorProto.FLOAT
    assert kept[f"scales.{name}"].data_type == TensorProto.DataType.Value(name.upper())
    assert single_precision(result) == ()
    np.testing.assert_array_equal(numpy_helper.to_array(kept["scales"]), scales)
    np.testing.assert_allclose(runner(emulate(result))(x), runner(model)(x), atol=0.1)


def test_every_fixed_float_is_read_off_the_schemas():
    """There is no list by hand: whatever operator takes float32 and no float16 keeps it."""
    opset = onnx.defs.onnx_opset_version()
    fixed = {
        (schema.name, place)
        for schema in onnx.defs.get_all_schemas()
        for place, formal in enumerate(schema.inputs if schema.domain == "" else ())
        if "tensor(float)" in formal.types and "tensor(float16)" not in formal.types
    }

    assert {("Resize", 2), ("NonMaxSuppression", 1)} <= fixed
    for name, place in sorted(fixed):
        node = ir.node(name, [ir.val(f"input_{index}") for index in range(place + 1)])
        assert takes(node, place, ir.DataType.FLOAT, {"": opset})
        assert not takes(node, place, ir.DataType.FLOAT16, {"": opset})


def test_outer_values_are_cast_for_a_body_only_where_it_needs_them(x):
    """The convolution computes in 16 bits; the branches read it through one cast."""
    result = to_fp16(_model(IF), x)

    (branching,) = [node for node in result.graph.node if node.op_type == "If"]
    read = {n for a in branching.attribute for node in a.g.node for n in node.input}
    makers = {name: node for node in result.graph.node for name in node.output}
    kinds = {name: makers[name].op_type if name in makers else "constant" for name in read}
    assert sorted(kinds.values()) == ["Cast", "Cast"]  # of c, and of half, which Greater reads too
    assert operators(result)["Cast"] == 2 + 3


def test_operator_of_another_domain_is_an_island(x):
    """ONNX has no schema of it, so nothing is known of the types that it takes."""
    model = _model("r = com.microsoft.Gelu(c)")
    model.opset_import.append(onnx.helper.make_opsetid("com.microsoft", 1))
    model.graph.value_info.append(
        onnx.helper.make_tensor_value_info("r", TensorProto.FLOAT, ["N", 2, 24])
    )
    typed = ir.from_proto(shape_inference.infer_shapes(model))

    count = retype(typed, ir.DataType.FLOAT, ir.DataType.FLOAT16)

    assert count == 4  # all but it
    result = ir.to_proto(typed)
    (own,) = [node for node in result.graph.node if node.domain]
    assert "Cast" in [n.op_type for n in result.graph.node if n.output[0] == own.input[0]]
    np.testing.assert_allclose(runner(result)(x), runner(model)(x), atol=0.02)


def test_constant_that_is_an_output_too_keeps_its_name_and_type(x):
    """Its copy is stored for the node that computes in 16 bits."""
    model = _model("r = Mul(c, half)")
    model.graph.output.append(onnx.helper.make_tensor_value_info("half", TensorProto.FLOAT, []))

    result = to_fp16(model, x)

    assert [value.name for value in result.graph.output] == ["y", "half"]
    kept = {i.name: i.data_type for i in result.graph.initializer}
    assert (kept["half"], kept["half.float16"]) == (TensorProto.FLOAT, TensorProto.FLOAT16)


def test_old_upsample_keeps_its_scales(x):
    """Of opset 9, if a model cannot be raised: the schema of that opset is asked."""
    model = _model("u = Relu(c) r = Relu(u)", length=48)
    old = convert(model, 20)
    for node in old.graph.node:
        if node.output[0] == "u":
            node.op_type = "Upsample"
            node.input.append("scales")
    scales = np.array([1, 1, 2], np.float32)
    old.graph.initializer.append(numpy_helper.from_array(scales, "scales"))
    old.opset_import[0].version = 9

    result = to_fp16(old, x)

    kept = {i.name: i.data_type for i in result.graph.initializer}
    assert kept["scales"] == TensorProto.FLOAT
    np.testing.assert_allclose(runner(result)(x), runner(old)(x), atol=0.02)
