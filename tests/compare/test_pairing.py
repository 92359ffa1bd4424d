"""Layers are paired by name, else in their order, else not at all."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import helper, parser

from edgedistill.compare.activations import Network
from edgedistill.compare.pairing import pair, readers
from edgedistill.optimize.passes.fold import fold
from edgedistill.optimize.passes.graph import load
from edgedistill.optimize.quantization.int8 import to_int8

_FLAT = """
<ir_version: 10, opset_import: ["" : 20]>
g (float[N, 2, 6] x) => (float[N, 6] y)
<int64[1] one = {1}>
{
  a = Neg(x)
  b = Relu(a)
  y = ReduceMean <keepdims = 0> (b, one)
}
"""


@pytest.fixture
def opened(tmp_path):
    """Return a model, or the text of one, as a network."""

    def call(model):
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}.onnx"
        proto = parser.parse_model(model) if isinstance(model, str) else model
        path.write_bytes(proto.SerializeToString())
        return Network(path)

    return call


def renamed(model):
    """Return a model in which every inner value and the output has another name."""
    names = {name: f"_{i}_" for i, n in enumerate(model.graph.node) for name in n.output}
    for node in model.graph.node:
        for there in (node.input, node.output):
            there[:] = [names.get(name, name) for name in there]
    model.graph.output[0].name = names[model.graph.output[0].name]
    return model


def _names(pairing):
    return [(p.first.name, p.second.name) for p in pairing.pairs]


def test_equal_names_are_paired(student):
    """All of a model and itself."""
    network = Network(student("fcn"))

    found = pair(network, network, (1, 60))

    assert found.how == "names"
    assert len(found.pairs) == 8
    assert all(one == other for one, other in _names(found))
    assert found.pairs[0].size == 16 * 60
    assert found.alone == ((), ())


def test_layers_without_counterpart_are_listed(student, series, opened):
    """A quantized FCN has none before its Relus, and pools; none of its quantizers is a layer."""
    float_model = Network(student("fcn"))

    found = pair(float_model, opened(to_int8(fold(load(student("fcn"))), series)), (1, 60))

    assert found.how == "names"
    assert [name for name, _ in _names(found)] == ["relu", "relu_1", "relu_2", "mean", "logits"]
    assert found.alone == (("getitem", "getitem_3", "getitem_6"), ("mean_pooled",))


def test_other_names_are_paired_in_order(opened):
    """Where operators and shapes are the same from end to end."""
    found = pair(opened(_FLAT), opened(renamed(parser.parse_model(_FLAT))), (2, 6))

    assert found.how == "order"
    assert _names(found) == [("a", "_0_"), ("b", "_1_"), ("y", "_2_")]


@pytest.mark.parametrize(
    "change",
    [("Relu", "Abs"), ("b = Relu(a)", "c = Relu(a) b = Neg(c)"), ("{1}", "{2}")],
    ids=["operator", "count", "shape"],
)
def test_other_names_and_another_structure_are_not_paired(opened, change):
    """Nothing is guessed."""
    text = _FLAT.replace(*change).replace("[N, 6] y", "[N, K] y")

    found = pair(opened(_FLAT), opened(renamed(parser.parse_model(text))), (2, 6))

    assert found.how is None
    assert found.pairs == ()
    assert found.alone[0] == ("a", "b", "y")


def test_lifted_layers_are_paired(opened, rng):
    """An axis of one step does not count; values of the one are fitted to the other."""
    lifted = parser.parse_model(_FLAT)
    nodes = lifted.graph.node
    nodes[0].input[0] = "image"
    lifted.graph.initializer.append(helper.make_tensor("two", 7, [1], [2]))
    nodes.insert(0, helper.make_node("Unsqueeze", ["x", "two"], ["image"]))
    nodes[2].output[0], nodes[3].input[0] = "b4", "b4"
    nodes[2].output[0] = "b"
    nodes[3].input[0] = "line"
    nodes.insert(3, helper.make_node("Squeeze", ["b", "two"], ["line"]))
    value = rng.normal(size=(5, 2, 6)).astype(np.float32)

    found = pair(opened(_FLAT), opened(lifted), (2, 6))

    assert _names(found) == [("a", "a"), ("b", "b"), ("y", "y")]
    assert found.alone == ((), ("image", "line"))
    np.testing.assert_array_equal(found.pairs[0].match_axes(value), value[:, :, None])


def test_readers_are_the_nearest_paired_layers(student, series, opened):
    """Through quantizers, and past layers that only one model has."""
    second = opened(to_int8(fold(load(student("fcn"))), series))
    found = pair(Network(student("fcn")), second, (1, 60))

    assert readers(found.pairs, second) == {
        "relu": ["relu_1"],
        "relu_1": ["relu_2"],
        "relu_2": ["mean"],
        "mean": ["logits"],
        "logits": [],
    }
