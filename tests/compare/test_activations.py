"""The activations of a model are found, named by their layers, and read as in the file."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import parser

from edgedistill.compare.activations import Network, node_inputs, nodes_between, subgraph
from edgedistill.errors import ModelError
from edgedistill.optimize.float16 import to_bf16, to_fp16
from edgedistill.optimize.passes.fold import fold
from edgedistill.optimize.passes.graph import load
from edgedistill.optimize.quantization.int8 import to_int8
from edgedistill.optimize.quantization.symmetric import to_w8a16

pytestmark = pytest.mark.slow

_FIXED = """
<ir_version: 10, opset_import: ["" : 20]>
g (float[4, 1, 6] x) => (float[4, K] y)
<int64[2] form = {4, 6}, int64[1] axis = {1}>
{
  flat = Reshape(x, form)
  y = Neg(flat)
}
"""


@pytest.fixture
def opened(tmp_path):
    """Return a model, or the text of one, as a network."""

    def call(model):
        path = tmp_path / "model.onnx"
        proto = parser.parse_model(model) if isinstance(model, str) else model
        path.write_bytes(proto.SerializeToString())
        return Network(path)

    return call


def _names(layers):
    return [layer.name for layer in layers]


def test_layers_come_in_order_with_node_operator_and_shape(student):
    """Of a network as it was exported; nothing that is a constant."""
    network = Network(student("fcn"))

    layers = network.layers(2, (1, 60))

    assert [x.operator for x in layers] == [*["Conv", "Relu"] * 3, "ReduceMean", "Gemm"]
    assert layers[0].shape == (2, 16, 60)
    assert all(layer.read == layer.name for layer in layers)
    assert layers[0].node.startswith("node_Conv")
    assert layers[-1].name == network.output == "logits"


def test_shapes_without_inference_are_measured(student):
    """An exported LSTM reshapes by arithmetic on its batch size."""
    layers = Network(student("lstm")).layers(2, (1, 60))

    assert all(all(size > 0 for size in layer.shape) for layer in layers)
    assert layers[-1].shape == (2, 2)


def test_layers_alone_give_the_values_of_the_whole_model(student, series):
    """Every layer run alone on what stands before it gives what the whole run gave."""
    network = Network(student("lite"))
    names = _names(network.layers(2, (1, 60)))
    feeds = {network.input: series}

    whole = dict(zip(names, network.reader(names)(feeds), strict=True)) | feeds

    for name in names:
        sources = network.sources(name, names)
        (alone,) = network.reader([name], names)({source: whole[source] for source in sources})
        np.testing.assert_array_equal(alone, whole[name])
    np.testing.assert_allclose(whole["logits"], network.logits(series), rtol=1e-5, atol=1e-6)


def test_half_precision_is_rounded_at_every_layer(student, series, opened):
    """Other than in a session on a CPU: what readers get are values that float16 holds."""
    network = opened(to_fp16(fold(load(student("fcn"))), series))
    layers = network.layers(2, (1, 60))

    values = network.reader([layer.read for layer in layers])({network.input: series})

    assert network.precision == "fp16"
    assert "logits" in _names(layers)
    assert "logits_half" not in _names(layers)
    for value in values:
        assert value.dtype == np.float32
        np.testing.assert_array_equal(value, value.astype(np.float16).astype(np.float32))


def test_quantized_values_are_those_that_readers_get(student, series, opened):
    """Rounded, and cut at zero where the quantizer took a Relu's place."""
    network = opened(to_int8(fold(load(student("fcn"))), series))
    layers = {layer.name: layer for layer in network.layers(2, (1, 60))}
    relu = layers["relu"]
    held = network.quantizer_range(relu.read)

    (value,) = network.reader([relu.read])({network.input: series})

    assert network.precision == "int8"
    assert relu.operator == "Conv"
    assert relu.read != "relu"
    assert held is not None
    assert held.low == 0
    assert held.high == pytest.approx(255 * held.step)
    assert 0 <= value.min() <= value.max() <= held.high * (1 + 1e-6)
    np.testing.assert_allclose(value / held.step, np.round(value / held.step), atol=1e-3)
    assert layers["logits"].operator == "Gemm"
    assert network.quantizer_range("relu") is None


def test_a_dynamic_lstm_is_int8(student, series, opened):
    """Without a quantizing node before it; its layers have shapes and can be read."""
    network = opened(to_int8(fold(load(student("lstm"))), series))

    operators = [layer.operator for layer in network.layers(2, (1, 60))]

    assert network.precision == "int8"
    assert "DynamicQuantizeLSTM" in operators


def test_brain_floats_are_rounded_too(student, series, opened):
    """Though ONNX Runtime has no such convolution on a CPU."""
    network = opened(to_bf16(fold(load(student("fcn")))))
    layers = network.layers(2, (1, 60))

    values = network.reader([layer.read for layer in layers])({network.input: series})

    assert network.precision == "bf16"
    assert [layer.operator for layer in layers[:2]] == ["Conv", "Relu"]
    for value in values:
        assert not (value.view(np.uint32) & 0xFFFF).any()  # the half that a bfloat16 lacks


def test_eight_bit_weights_count_as_int8(student, series, opened):
    """Whatever else is in 16 bits."""
    network = opened(to_w8a16(fold(load(student("lstm"))), series))

    assert network.precision == "int8"


def test_a_fixed_batch_is_filled_up(opened, rng):
    """The logits are those of the series alone."""
    network = opened(_FIXED)
    series = rng.normal(size=(6, 1, 6)).astype(np.float32)

    logits = network.logits(series)

    assert network.batch == 4
    np.testing.assert_array_equal(logits, -series[:, 0])


@pytest.mark.parametrize(
    ("taken", "seen"),
    [
        ("float[N, T] x", r"%x\[FLOAT, NxT\]"),
        ("float16[N, 1, T] x", r"%x\[FLOAT16, Nx1xT\]"),
        ("float[N, 1, T] x, float[N] z", r"%x\[FLOAT, Nx1xT\], %z\[FLOAT, N\]"),
    ],
)
def test_model_that_takes_no_series_is_refused(opened, taken, seen):
    """The message names what it takes."""
    text = f"""<ir_version: 10, opset_import: ["" : 20]> g ({taken}) => (y) {{ y = Neg(x) }}"""
    model = parser.parse_model(text)
    model.graph.output[0].type.CopyFrom(model.graph.input[0].type)

    with pytest.raises(ModelError, match=rf"takes {seen}\. Models that are compared"):
        opened(model)


def test_a_file_that_is_missing_or_cut_short(tmp_path, student):
    """As wherever a model is read."""
    cut = tmp_path / "cut.onnx"
    cut.write_bytes(student("fcn").read_bytes()[:1000])

    with pytest.raises(ModelError, match="There is no model file"):
        Network(tmp_path / "none.onnx")
    with pytest.raises(ModelError, match="cut short"):
        Network(cut)


def test_series_that_do_not_fit(student):
    """ONNX Runtime's reason and the file's name."""
    with pytest.raises(ModelError, match=r"cannot run the model on series"):
        Network(student("fcn")).logits(np.zeros((2, 3, 60), np.float32))


def test_the_file_stays_as_it_is(student):
    """Reading layers changes nothing of the model."""
    network = Network(student("fcn"))
    before = onnx.load(student("fcn"))

    network.layers(2, (1, 60))

    assert network.logits(np.zeros((3, 1, 60), np.float32)).shape == (3, 2)
    assert onnx.load(student("fcn")) == before


_BRANCHES = """
<ir_version: 10, opset_import: ["" : 20]>
g (float[N, C, T] x) => (float[N, C, T] y)
<float two = {2.0}, float three = {3.0}>
{
  a = Mul(x, two)
  b = Add(a, three)
  c = Neg(a)
  y = Add(b, c)
}
"""
_LOOK_INSIDE = """
<ir_version: 10, opset_import: ["" : 20]>
g (float[N] x, bool choice) => (float[N] y)
{
  a = Neg(x)
  y = If (choice) <
    then_branch = t () => (float[N] u) { u = Relu(a) },
    else_branch = e () => (float[N] v) { v = Abs(x) }
  >
}
"""


def _run(model, *feeds):
    session = onnxruntime.InferenceSession(model.SerializeToString())
    names = (place.name for place in session.get_inputs())
    return session.run(None, dict(zip(names, feeds, strict=True)))


def test_subgraph_has_only_the_nodes_between():
    """Nodes before a start are left out, and unused starts are named."""
    model = parser.parse_model(_BRANCHES)

    starts, nodes = nodes_between(model, {"a", "x", "y"}, ["b"])

    assert starts == {"a"}
    assert [node.output[0] for node in nodes] == ["b"]
    assert nodes_between(model, {"x"}, ["c"])[0] == {"x"}
    assert [n.output[0] for n in nodes_between(model, {"x"}, ["c"])[1]] == ["a", "c"]


def test_subgraph_gives_the_values_of_the_model(rng):
    """From a value in the middle to two others, with the constants that it needs alone."""
    model = parser.parse_model(_BRANCHES)
    starts, nodes = nodes_between(model, {"a"}, ["b", "y"])
    a = rng.normal(size=(2, 1, 3)).astype(np.float32)

    piece = subgraph(model, sorted(starts), nodes, ["b", "y"])
    b, y = _run(piece, a)

    assert [i.name for i in piece.graph.initializer] == ["three"]
    np.testing.assert_array_equal(b, a + 3)
    np.testing.assert_array_equal(y, b - a)


def test_inputs_of_inner_graphs_are_found():
    """Inputs of a branch count as inputs of its node."""
    model = parser.parse_model(_LOOK_INSIDE)

    assert {"a", "x", "choice"} <= set(node_inputs(model.graph.node[1]))
    assert len(nodes_between(model, {"x", "choice"}, ["y"])[1]) == 2
