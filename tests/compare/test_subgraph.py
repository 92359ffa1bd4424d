"""A part of a graph computes what the whole computes there."""

from __future__ import annotations

import numpy as np
import onnxruntime
from onnx import parser

from edgedistill.compare.subgraph import node_inputs, nodes_between, subgraph

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


def test_only_what_lies_between_is_taken():
    """What a start hides is not there; a start that nothing needs is told."""
    model = parser.parse_model(_BRANCHES)

    starts, nodes = nodes_between(model, {"a", "x", "y"}, ["b"])

    assert starts == {"a"}
    assert [node.output[0] for node in nodes] == ["b"]
    assert nodes_between(model, {"x"}, ["c"])[0] == {"x"}
    assert [n.output[0] for n in nodes_between(model, {"x"}, ["c"])[1]] == ["a", "c"]


def test_a_part_computes_what_the_whole_does(rng):
    """From a value in the middle to two others, with the constants that it needs alone."""
    model = parser.parse_model(_BRANCHES)
    starts, nodes = nodes_between(model, {"a"}, ["b", "y"])
    a = rng.normal(size=(2, 1, 3)).astype(np.float32)

    piece = subgraph(model, sorted(starts), nodes, ["b", "y"])
    b, y = _run(piece, a)

    assert [i.name for i in piece.graph.initializer] == ["three"]
    np.testing.assert_array_equal(b, a + 3)
    np.testing.assert_array_equal(y, b - a)


def test_graphs_inside_nodes_are_looked_into():
    """What a branch reads from outside is read by its node."""
    model = parser.parse_model(_LOOK_INSIDE)

    assert {"a", "x", "choice"} <= set(node_inputs(model.graph.node[1]))
    assert len(nodes_between(model, {"x", "choice"}, ["y"])[1]) == 2
