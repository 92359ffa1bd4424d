"""Folding changes no logit and leaves portable operators; each rewrite applies only where valid."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import helper, numpy_helper, parser, shape_inference
from onnx.reference import ReferenceEvaluator
from onnxscript import optimizer

from edgedistill.optimize.execution import logits
from edgedistill.optimize.passes import fold
from edgedistill.optimize.passes.graph import load, operators, strip

HEAD = '<ir_version: 10, opset_import: ["" : 20]>'


def _joined(tail: str) -> str:
    return f"""{HEAD}
    g (float[N,2,6] x) => (float[N,5,6] y) {{
      a = Conv<kernel_shape=[1]>(x, w)
      b = Relu(x)
      c = Concat<axis=1>(a, b)
      {tail}
    }}"""


NORM = "BatchNormalization(c, gamma, beta, mean, var)"


def _model(text: str, rng: np.random.Generator, **shapes: tuple[int, ...]) -> onnx.ModelProto:
    """Return a parsed model with positive random constants of these names and shapes."""
    model = parser.parse_model(text)
    for name, shape in shapes.items():
        values = rng.uniform(0.5, 2.0, size=shape).astype(np.float32)
        model.graph.initializer.append(numpy_helper.from_array(values, name))
    return model


def _rewritten(model: onnx.ModelProto) -> onnx.ModelProto:
    graph = ir.from_proto(shape_inference.infer_shapes(model, data_prop=True))
    fold.move_norm_before_concat(graph.graph)
    fold.merge_channel_slices(graph.graph)
    fold.move_norm_before_relu(graph.graph)
    fold.drop_zero_lstm_state(graph.graph)
    optimizer.remove_unused_nodes(graph)
    return ir.to_proto(graph)


def _run(model: onnx.ModelProto, x: np.ndarray) -> np.ndarray:
    return ReferenceEvaluator(model).run(None, {"x": x})[0]


def _norm_shapes() -> dict[str, tuple[int, ...]]:
    return {"w": (3, 2, 1), "gamma": (5,), "beta": (5,), "mean": (5,), "var": (5,)}


def test_norm_goes_before_the_concat(rng):
    """Each branch is normalized with its own share of the parameters; the result is the same."""
    model = _model(_joined(f"d = {NORM} y = Relu(d)"), rng, **_norm_shapes())
    x = rng.normal(size=(2, 2, 6)).astype(np.float32)

    after = _rewritten(model)

    concat = next(node for node in after.graph.node if node.op_type == "Concat")
    assert list(concat.input) == ["a_normed", "b_normed"]
    np.testing.assert_allclose(_run(after, x), _run(model, x), rtol=1e-5)


@pytest.mark.parametrize(
    "tail",
    [
        f"y = {NORM}",  # the output's name must stay
        f"d = {NORM} y = Add(d, c)",  # the joined value is used elsewhere
    ],
    ids=["output", "shared"],
)
def test_norm_stays_where_it_must(tail, rng):
    """A norm whose move would change something else stays."""
    model = _model(_joined(tail), rng, **_norm_shapes())

    after = _rewritten(model)

    assert operators(after) == operators(model)


@pytest.mark.parametrize("outputs", ["d", "d, m, v"])
def test_norm_in_training_stays(outputs, rng):
    """It takes the statistics of the batch, of all channels at once."""
    norm = NORM.replace("(", "<training_mode=1>(", 1)
    model = _model(_joined(f"{outputs} = {norm} y = Relu(d)"), rng, **_norm_shapes())

    assert operators(_rewritten(model)) == operators(model)


def test_norm_stays_without_a_convolution(rng):
    """With nothing to fold into, splitting would only add nodes."""
    text = _joined(f"d = {NORM} y = Relu(d)").replace("Conv<kernel_shape=[1]>(x, w)", "Neg(x)")
    model = _model(text.replace("N,5,6", "N,4,6"), rng, gamma=(4,), beta=(4,), mean=(4,), var=(4,))

    assert operators(_rewritten(model)) == operators(model)


def test_norm_stays_with_parameters_that_are_no_constants(rng):
    """Parameters that come from the graph cannot be split here."""
    text = _joined(f"beta = Neg(gamma) d = {NORM} y = Relu(d)")
    shapes = {name: shape for name, shape in _norm_shapes().items() if name != "beta"}
    model = _model(text, rng, **shapes)

    assert operators(_rewritten(model)) == operators(model)


CONVOLUTION = "a = Conv<kernel_shape=[1]>(x, w, v)"
CHOICE = f"""{HEAD}
g (float[N,2,6] x) => (float[N,OUT,6] y) {{
  {CONVOLUTION}
  b = Slice(a, zero, two, one, one)
  c = Slice(a, two, many, one, one)
  d = Neg(b)
  TAIL
}}"""
JOIN = "e = Concat<axis=1>(d, c, b)"
ENDS = {name: np.array([value]) for name, value in (("zero", 0), ("one", 1), ("two", 2))}


def _choice(tail: str, rng, *, out: int = 7, change: tuple[str, str] = ("", "")) -> onnx.ModelProto:
    text = CHOICE.replace("TAIL", tail).replace("OUT", str(out)).replace(*change)
    model = _model(text, rng, w=(5, 2, 1), v=(5,), filters=(5, 2))
    for name, value in (ENDS | {"many": np.array([2**63 - 1])}).items():
        model.graph.initializer.append(numpy_helper.from_array(value, name))
    return model


def test_chosen_and_negated_channels_are_one_convolution(rng):
    """In the order in which they are joined, biases too."""
    model = _choice(f"{JOIN} y = Relu(e)", rng)
    x = rng.normal(size=(2, 2, 6)).astype(np.float32)

    after = _rewritten(model)

    assert operators(after) == {"Conv": 1, "Relu": 1}
    np.testing.assert_allclose(_run(after, x), _run(model, x), rtol=1e-5)


def test_other_types_stay_what_they_are(rng):
    """A file need not be of float32."""
    model = _rectified(JOINED, rng, out=5)
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.elem_type = onnx.TensorProto.DOUBLE
    for constant in model.graph.initializer:
        wide = numpy_helper.to_array(constant).astype(np.float64)
        constant.CopyFrom(numpy_helper.from_array(wide, constant.name))
    x = rng.normal(size=(4, 2, 6))

    after = _rewritten(model)

    onnx.checker.check_model(after, full_check=True)
    np.testing.assert_allclose(_run(after, x), _run(model, x), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    ("tail", "out", "change"),
    [
        (f"{JOIN.replace('e =', 'y =')}", 7, ("", "")),
        (f"{JOIN} f = Concat<axis=1>(e, a) y = Relu(f)", 12, ("", "")),
        (f"{JOIN} f = Concat<axis=1>(e, d) y = Relu(f)", 9, ("", "")),
        (f"r = Relu(x) {JOIN.replace('b)', 'r)')} y = Relu(e)", 7, ("", "")),
        (f"{JOIN} y = Relu(e)", 7, (CONVOLUTION, "a = MatMul(filters, x)")),
        (f"{JOIN} y = Relu(e)", 7, ("two, many, one, one", "two, many, one, two")),
    ],
    ids=[
        "output",
        "read elsewhere",
        "a part is read elsewhere",
        "something else joined",
        "no convolution",
        "every other",
    ],
)
def test_channels_stay_where_they_must(tail, out, change, rng):
    model = _choice(tail, rng, out=out, change=change)

    assert operators(_rewritten(model)) == operators(model)


RECTIFIED = f"""{HEAD}
g (float[N,2,6] x) => (float[N,OUT,6] y) {{
  a = Conv<kernel_shape=[1]>(x, w)
  b = Relu(a)
  c = BatchNormalization(b, gamma, beta, mean, var)
  TAIL
}}"""


def _rectified(tail: str, rng, *, gamma=(1, 2, 3), beta=(-1, 0, 0.5), out: int = 3):
    model = _model(RECTIFIED.replace("TAIL", tail).replace("OUT", str(out)), rng, w=(3, 2, 1))
    parts = {"gamma": gamma, "beta": beta, "mean": (0, 0, 0.1), "var": (1, 2, 3)}
    for name, values in parts.items():
        model.graph.initializer.append(numpy_helper.from_array(np.float32(values), name))
    return model


ALONE, JOINED = "y = Relu(c)", "d = Concat<axis=1>(c, x) y = Relu(d)"


@pytest.mark.parametrize(("tail", "out"), [(ALONE, 3), (JOINED, 5)], ids=["alone", "joined"])
@pytest.mark.parametrize(
    ("beta", "norms", "cuts"), [((-1, 0, 0.05), 1, 1), ((-1, 0, 0.5), 2, 2)], ids=["none", "some"]
)
def test_norm_goes_before_the_relu(tail, out, beta, norms, cuts, rng):
    """Shifts above 0 stay behind it, in a norm that scales nothing."""
    model = _rectified(tail, rng, beta=beta, out=out)
    x = rng.normal(size=(4, 2, 6)).astype(np.float32)

    after = _rewritten(model)

    found = operators(after)
    assert (found["BatchNormalization"], found["Relu"]) == (norms, cuts)
    first = next(node for node in after.graph.node if node.op_type == "BatchNormalization")
    assert first.input[0] == "a"
    np.testing.assert_allclose(_run(after, x), _run(model, x), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("tail", "gamma"),
    [
        (ALONE, (1, -2, 3)),
        ("y = Neg(c)", (1, 2, 3)),
        ("d = Neg(c) e = Relu(c) y = Add(d, e)", (1, 2, 3)),
        ("e = Relu(c) y = Add(b, e)", (1, 2, 3)),
    ],
    ids=["scale below 0", "no ReLU behind", "not only a ReLU", "the ReLU before is read too"],
)
def test_norm_stays_behind_the_relu(tail, gamma, rng):
    model = _rectified(tail, rng, gamma=gamma)

    assert operators(_rewritten(model)) == operators(model)


@pytest.mark.parametrize(
    ("tail", "output"), [(ALONE, "a"), (ALONE, "b"), (ALONE, "c"), (JOINED, "d")]
)
def test_norm_stays_where_an_output_would_change(tail, output, rng):
    """Values that the ReLU behind does not cut are visible."""
    model = _rectified(tail, rng, out=3 if tail == ALONE else 5)
    model.graph.output.append(helper.make_empty_tensor_value_info(output))

    assert operators(_rewritten(model)) == operators(model)


LSTM = f"""{HEAD}
g (float[6,N,2] x) => (float[6,N,K] z) {{
  h = Expand(start, shape)
  s = LSTM<hidden_size=3 DIRECTION>(x, w, r, b, , h, h)
  t = Transpose<perm=[0,2,1,3]>(s)
  y = Reshape(t, merged)
  z = Relu(y)
}}"""


def _lstm(rng, *, direction: str, start: float) -> onnx.ModelProto:
    ways = 2 if direction else 1
    text = LSTM.replace("DIRECTION", direction).replace("K", str(3 * ways))
    model = _model(text, rng, w=(ways, 12, 2), r=(ways, 12, 3), b=(ways, 24))
    constants = {
        "start": np.float32(start),
        "shape": np.array([ways, 2, 3]),
        "merged": np.array([6, 2, 3 * ways]),
    }
    for name, value in constants.items():
        model.graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))
    return model


def test_lstm_loses_zero_states_and_reshape(rng):
    """Zero states are the default and one direction is a squeeze: the result is the same."""
    model = _lstm(rng, direction="", start=0.0)
    x = rng.normal(size=(6, 2, 2)).astype(np.float32)

    after = _rewritten(model)

    lstm = next(node for node in after.graph.node if node.op_type == "LSTM")
    relu = next(node for node in after.graph.node if node.op_type == "Relu")
    squeeze = next(node for node in after.graph.node if node.op_type == "Squeeze")
    assert "h" not in lstm.input
    assert list(relu.input) == list(squeeze.output)
    np.testing.assert_allclose(_run(after, x), _run(model, x), rtol=1e-6)


def test_lstm_keeps_states_that_are_not_zero(rng):
    """A start at one is not a start at zero."""
    after = _rewritten(_lstm(rng, direction="", start=1.0))

    lstm = next(node for node in after.graph.node if node.op_type == "LSTM")
    assert list(lstm.input[5:7]) == ["h", "h"]


def test_lstm_of_two_directions_keeps_its_reshape(rng):
    """Two directions cannot be squeezed into one."""
    after = _rewritten(_lstm(rng, direction=', direction="bidirectional"', start=0.0))

    assert "Squeeze" not in operators(after)


@pytest.mark.parametrize(
    ("channels", "axis", "output", "left"),
    [(1, 1, "y", 0), (2, 1, "y", 1), (1, 2, "y", 1), (1, 1, "s", 1)],
    ids=["one channel", "two channels", "over time", "the output"],
)
def test_the_sum_of_one_channel_is_dropped(channels, axis, output, left, rng):
    """Only where it gives what it gets, and never with the name of an output."""
    tail = "y = Relu(s)" if output == "y" else ""
    size = f"N,1,{6 if axis == 1 else 1}"
    text = f"""{HEAD}
    g (float[N,{channels},6] x) => (float[{size}] {output})
      <int64[1] axis = {{{axis}}}> {{
      s = ReduceSum<keepdims=1>(x, axis)
      {tail}
    }}"""
    model = parser.parse_model(text)
    x = rng.normal(size=(3, channels, 6)).astype(np.float32)
    graph = ir.from_proto(shape_inference.infer_shapes(model))

    fold.drop_single_channel_sum(graph.graph)

    found = ir.to_proto(graph)
    ran = ReferenceEvaluator(found).run(None, {"x": x})[0]
    np.testing.assert_allclose(ran, ReferenceEvaluator(model).run(None, {"x": x})[0])
    used = {name for node in found.graph.node for name in node.input} | {output}
    kept = [n for n in found.graph.node if n.op_type == "ReduceSum" and n.output[0] in used]
    assert len(kept) == left


@pytest.mark.parametrize("family", ["fcn", "lite", "lstm"])
def test_folded_model_gives_the_same_logits(family, student, series, tmp_path):
    """Fewer nodes, fewer bytes, the same numbers, the same interface, and ONNX's own operators."""
    source = load(student(family))
    path = tmp_path / "folded.onnx"

    folded = fold.fold(source)

    path.write_bytes(folded.SerializeToString())
    np.testing.assert_allclose(logits(path, series), logits(student(family), series), atol=1e-6)
    assert folded.graph.input == strip(source).graph.input
    assert folded.graph.output == strip(source).graph.output
    assert len(folded.graph.node) <= len(source.graph.node)
    assert {node.domain for node in folded.graph.node} == {""}
    assert {o.domain for o in folded.opset_import} == {""}


def test_every_norm_of_an_fcn_folds(student):
    """Behind a convolution no batch norm is left."""
    folded = fold.fold(load(student("fcn")))

    assert operators(folded) == {"Conv": 3, "Gemm": 1, "ReduceMean": 1, "Relu": 3}


def test_lstm_keeps_no_shape_arithmetic(student):
    """The exporter's arithmetic on shapes and zero states is removed."""
    before = operators(load(student("lstm")))

    after = operators(fold.fold(load(student("lstm"))))

    assert before["Slice"] > 0
    assert after == {"Gather": 1, "Gemm": 1, "LSTM": 1, "Squeeze": 1, "Transpose": 2}


def test_fold_leaves_its_argument_alone(student):
    """Values in, values out."""
    model = load(student("lstm"))
    before = model.SerializeToString()

    fold.fold(model)

    assert model.SerializeToString() == before
