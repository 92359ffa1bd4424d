"""Channels of depthwise convolutions, filled up with zeros to what fast kernels take.

ONNX Runtime's fast 8-bit depthwise kernel, and its blocked layout in float32, want a multiple of 16
channels; any other number falls to general code. A channel of zeros costs next to nothing, and no
logit changes: its filter is zero, and the convolution that reads it gives it no weight.
"""

from __future__ import annotations

import itertools

import numpy as np
import onnx
import onnx_ir as ir
from onnx import shape_inference

from edgedistill.io.arrays import Floats
from edgedistill.optimize.passes.graph import channels_of, strip

BLOCK = 16  # channels
_OUTPUTS, _INPUTS = 0, 1  # axes of a convolution's weights, (O, I, k)
_WEIGHTS, _BIAS = 1, 2  # inputs of a convolution
# Of a batch norm, gamma and variance are filled up with those of a channel, beta and mean with
# zeros: zeros stay zeros, and a norm that scales all channels alike still does.
_ALIKE = (1, 4)


def align(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return an equal model whose depthwise convolutions have a multiple of 16 channels.

    One stays as it is if its channels do not come from a convolution that nobody else reads, or do
    not go into one convolution alone.

    Args:
        model: folded, float32.
    """
    result = strip(model)
    while (aligned := _align_one(result)) is not None:
        result = aligned
    return result


def _align_one(model: onnx.ModelProto) -> onnx.ModelProto | None:
    whole = ir.from_proto(shape_inference.infer_shapes(model))
    for node in whole.graph:
        if not _is_convolution(node) or not _is_depthwise(node):
            continue
        path, reader = _path(node.inputs[0]), _reader(node.outputs[0])
        extra = -len(_weights(node)) % BLOCK
        if extra and path and reader:
            _fill_up(path, node, reader, extra, whole.graph)
            return strip(ir.to_proto(whole))
    return None


def _path(value: ir.Value | None) -> list[ir.Node]:
    """Return the nodes from the cheapest convolution to a value, each read by the next alone.

    Empty if there is none.
    """
    node = None if value is None else value.producer()
    if node is None or value is None or len(value.uses()) != 1 or value.is_graph_output():
        return []
    if _is_convolution(node):
        return [node] if _group(node) == 1 else []
    inputs: list[ir.Value | None] = []
    if node.op_type == "Relu" or (node.op_type == "BatchNormalization" and _is_constant(node)):
        inputs = [node.inputs[0]]
    elif node.op_type == "Concat" and node.attributes["axis"].as_int() == 1:
        inputs = list(node.inputs) if all(map(channels_of, node.inputs)) else []
    paths = [path for path in map(_path, inputs) if path]
    return [*min(paths, key=_taps), node] if paths else []


def _taps(path: list[ir.Node]) -> int:
    """Return the multiply-accumulates of a channel of a path's convolution, a step."""
    return int(np.prod(_weights(path[0]).shape[1:]))


def _reader(value: ir.Value) -> ir.Node | None:
    """Return the ungrouped convolution that alone reads a value."""
    readers = [use.node for use in value.uses()]
    if len(readers) != 1 or value.is_graph_output():
        return None
    reader = readers[0]
    return reader if _is_convolution(reader) and _group(reader) == 1 else None


def _fill_up(
    path: list[ir.Node], depthwise: ir.Node, reader: ir.Node, extra: int, graph: ir.Graph
) -> None:
    """Put `extra` channels of zeros behind those of the path's convolution, down to the reader."""
    at = len(_weights(path[0]))
    _insert_outputs(path[0], at, extra, graph)
    for before, node in itertools.pairwise(path):
        if node.op_type == "Concat":
            own = list(node.inputs).index(before.outputs[0])
            at += sum(channels_of(value) for value in node.inputs[:own])
        elif node.op_type == "BatchNormalization":
            for index in range(1, len(node.inputs)):
                _insert(node, index, 0, at, extra, graph, again=index in _ALIKE)
    _insert_outputs(depthwise, at, extra, graph)
    depthwise.attributes["group"] = ir.AttrInt64("group", len(_weights(depthwise)))
    _insert(reader, _WEIGHTS, _INPUTS, at, extra, graph)


def _insert_outputs(node: ir.Node, at: int, extra: int, graph: ir.Graph) -> None:
    _insert(node, _WEIGHTS, _OUTPUTS, at, extra, graph)
    if len(node.inputs) > _BIAS:
        _insert(node, _BIAS, _OUTPUTS, at, extra, graph)


def _insert(
    node: ir.Node,
    index: int,
    axis: int,
    at: int,
    extra: int,
    graph: ir.Graph,
    *,
    again: bool = False,
) -> None:
    """Give a node a copy of a constant with `extra` more slices; others may read the constant.

    They are of zeros, or have the first value `again`.
    """
    old = node.inputs[index]
    if old is None or old.const_value is None:
        return
    array = old.const_value.numpy()
    fill = array.flat[0] if again else 0
    wider: Floats = np.insert(array, [at] * extra, fill, axis=axis).astype(array.dtype)
    name = f"{old.name}_for_{node.outputs[0].name}_{index}"  # one constant may be several inputs
    value = ir.val(name, const_value=ir.tensor(wider))
    graph.register_initializer(value)
    node.replace_input_with(index, value)
    if not old.uses():
        graph.initializers.pop(str(old.name), None)


def _is_convolution(node: ir.Node) -> bool:
    """Return whether a node is a convolution with constant weights and bias."""
    return node.op_type == "Conv" and _is_constant(node)


def _is_constant(node: ir.Node) -> bool:
    """Return whether all inputs of a node but the first are constant."""
    return all(value is not None and value.const_value is not None for value in node.inputs[1:])


def _is_depthwise(node: ir.Node) -> bool:
    filters, inputs = _weights(node).shape[:2]
    return bool(inputs == 1 and _group(node) == filters > 1)


def _group(node: ir.Node) -> int:
    return node.attributes["group"].as_int() if "group" in node.attributes else 1


def _weights(node: ir.Node) -> Floats:
    """Return the weights of a convolution with constant weights, (O, I, k)."""
    constant = node.inputs[_WEIGHTS]
    if constant is None or constant.const_value is None:
        raise TypeError(f"{node.name} has no constant weights")
    return constant.const_value.numpy()
