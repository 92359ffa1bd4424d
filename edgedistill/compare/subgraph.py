"""A part of an ONNX graph as a model of its own: what lies between some of its values."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import onnx
from onnx import TensorProto, helper


def node_inputs(node: onnx.NodeProto) -> list[str]:
    """Return the names of all that a node reads, the graphs inside it included."""
    inner = [a.g for a in node.attribute if a.type == onnx.AttributeProto.GRAPH]
    return [
        *filter(None, node.input),
        *(n for g in inner for one in g.node for n in node_inputs(one)),
    ]


def nodes_between(
    model: onnx.ModelProto, starts: Collection[str], values: Sequence[str]
) -> tuple[set[str], list[onnx.NodeProto]]:
    """Return which of the starts lead to some values, and the nodes between, in their order."""
    makers = {name: node for node in model.graph.node for name in node.output if name}
    ahead, seen = list(values), set(values)
    while ahead:
        name = ahead.pop()
        if name not in starts and name in makers:
            new = set(node_inputs(makers[name])) - seen
            seen |= new
            ahead += new
    used = seen & set(starts)
    needed = seen - used
    return used, [node for node in model.graph.node if needed & set(node.output)]


def subgraph(
    model: onnx.ModelProto,
    starts: Sequence[str],
    nodes: Sequence[onnx.NodeProto],
    values: Sequence[str],
) -> onnx.ModelProto:
    """Return a model of some nodes that takes the starts and gives the values.

    Args:
        model: which they are part of.
        starts: names of float32 values; the inputs, in this order.
        nodes: in the order of the graph.
        values: names of values; the outputs, in this order.
    """
    needed = {*values, *(name for node in nodes for name in node_inputs(node))}
    result = onnx.ModelProto(ir_version=model.ir_version, opset_import=model.opset_import)
    result.graph.name = "part"
    result.graph.node.extend(nodes)
    result.graph.initializer.extend(i for i in model.graph.initializer if i.name in needed)
    result.graph.input.extend(
        helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in starts
    )
    result.graph.output.extend(onnx.ValueInfoProto(name=name) for name in values)
    return result
