"""Three rewrites that the general optimizer lacks, for what the exporter makes of our networks.

They change a graph in place and leave dead nodes for the optimizer that runs after them.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

_NORM_PARAMETERS = ("gamma", "beta", "mean", "variance")  # inputs 1 to 4 of BatchNormalization
_STAY_ZERO = {"Expand", "Identity", "Reshape", "Slice", "Squeeze", "Transpose", "Unsqueeze"}
_INITIAL_STATES = (5, 6)  # inputs of an LSTM: initial_h and initial_c
_SWAP_DIRECTION = [0, 2, 1, 3]  # (T, directions, N, H) -> (T, N, directions, H)


def norm_before_concat(graph: ir.Graph) -> None:
    """Turn norm(concat(a, b)) into concat(norm(a), norm(b)): then convolutions can take them in.

    Inception and LITE normalize after they join their branches.
    """
    for norm in list(graph):
        concat = _producer(norm.inputs[0]) if norm.op_type == "BatchNormalization" else None
        if concat is None or concat.op_type != "Concat" or concat.attributes["axis"].as_int() != 1:
            continue
        branches = [value for value in concat.inputs if value is not None]
        widths = [channels_of(value) for value in branches]
        parameters = [_constant(value) for value in norm.inputs[1:]]
        if min(widths) == 0 or any(p is None for p in parameters):
            continue
        if norm.outputs[0].is_graph_output():  # whose name must stay
            continue
        if len(concat.outputs[0].uses()) != 1 or not any(_is_convolution(b) for b in branches):
            continue
        stops = np.cumsum(widths).tolist()
        for index, (branch, width, stop) in enumerate(zip(branches, widths, stops, strict=True)):
            own = [p[stop - width : stop] for p in parameters if p is not None]
            part = _norm_of(graph, norm, branch, own)
            concat.prepend(part)
            concat.replace_input_with(index, part.outputs[0])
        norm.outputs[0].replace_all_uses_with(concat.outputs[0])


def sum_of_one_channel(graph: ir.Graph) -> None:
    """Drop the sum over channels where there is one: LITE's fixed filters read it."""
    for node in list(graph):
        if node.op_type != "ReduceSum" or node.attributes["keepdims"].as_int() != 1:
            continue
        axes = _constant(node.inputs[1]) if len(node.inputs) > 1 else None
        if axes is None or axes.tolist() != [1] or channels_of(node.inputs[0]) != 1:
            continue
        if node.inputs[0] is not None and not node.outputs[0].is_graph_output():
            node.outputs[0].replace_all_uses_with(node.inputs[0])


def plain_lstm(graph: ir.Graph) -> None:
    """Drop the zero initial states of an LSTM and the shape arithmetic behind it.

    ONNX starts at zero by itself. The exporter merges the direction axis by a reshape to a shape
    that it computes at run time; with one direction a squeeze says the same.
    """
    for node in list(graph):
        if node.op_type != "LSTM":
            continue
        for index in _INITIAL_STATES:
            if index < len(node.inputs) and _is_zero(node.inputs[index]):
                node.replace_input_with(index, None)
        _squeeze_direction(graph, node)


def _norm_of(
    graph: ir.Graph, norm: ir.Node, branch: ir.Value, parameters: list[NDArray[np.float32]]
) -> ir.Node:
    """Return the batch norm of one branch with its share of the parameters."""
    values = []
    for name, parameter in zip(_NORM_PARAMETERS, parameters, strict=True):
        value = ir.val(f"{branch.name}_{name}", const_value=ir.tensor(parameter.copy()))
        graph.register_initializer(value)
        values.append(value)
    output = ir.val(f"{branch.name}_normed", type=branch.type, shape=branch.shape)
    return ir.node("BatchNormalization", [branch, *values], dict(norm.attributes), outputs=[output])


def _squeeze_direction(graph: ir.Graph, lstm: ir.Node) -> None:
    direction = lstm.attributes.get("direction")
    if direction is not None and direction.as_string() == "bidirectional":
        return
    for transpose in _consumers(lstm.outputs[0], "Transpose"):
        if list(transpose.attributes["perm"].as_ints()) != _SWAP_DIRECTION:
            continue
        for reshape in _consumers(transpose.outputs[0], "Reshape"):
            if reshape.outputs[0].is_graph_output():  # whose name must stay
                continue
            axis = ir.val(f"{lstm.outputs[0].name}_axis", const_value=ir.tensor([1]))
            graph.register_initializer(axis)
            squeeze = ir.node("Squeeze", [lstm.outputs[0], axis])
            reshape.prepend(squeeze)
            reshape.outputs[0].replace_all_uses_with(squeeze.outputs[0])


def _is_zero(value: ir.Value | None) -> bool:
    """Whether a value is a constant of zeros, seen through operators that only move or repeat."""
    while (node := _producer(value)) is not None and node.op_type in _STAY_ZERO:
        value = node.inputs[0]
    constant = _constant(value)
    return constant is not None and not constant.any()


def _is_convolution(value: ir.Value) -> bool:
    node = _producer(value)
    return node is not None and node.op_type == "Conv"


def channels_of(value: ir.Value | None) -> int:
    """Return the size of axis 1, or 0 where it is not known."""
    if value is None or value.shape is None or len(value.shape) < 2:
        return 0
    size = value.shape[1]
    return size if isinstance(size, int) else 0


def _constant(value: ir.Value | None) -> NDArray[np.float32] | None:
    if value is None or value.const_value is None:
        return None
    return value.const_value.numpy()


def _producer(value: ir.Value | None) -> ir.Node | None:
    return None if value is None else value.producer()


def _consumers(value: ir.Value, op_type: str) -> list[ir.Node]:
    return [use.node for use in value.uses() if use.node.op_type == op_type]
