"""Fold batch norms and constants of an ONNX model into fewer operators.

The rewrites are those that the general optimizer lacks, for networks exported from torch. They
change a graph in place and leave dead nodes for the optimizer that runs after them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx
import onnx_ir as ir
import onnxscript
from onnx import shape_inference
from onnxscript import optimizer, rewriter

from edgedistill.errors import ModelError
from edgedistill.io.arrays import Floats
from edgedistill.optimize.passes.graph import channels_of, check, strip
from edgedistill.optimize.passes.opset import TOOL_ERRORS, brief

_NO_LIMIT = 1 << 31  # bytes of a constant to fold: by default an LSTM's weights are too large
_EPSILON = 1e-5  # of a norm that names none
_SLICE = 3  # inputs of a slice that names its axis, without the value
_NORM_PARAMETERS = ("gamma", "beta", "mean", "variance")  # inputs 1 to 4 of BatchNormalization
_STAY_ZERO = {"Expand", "Identity", "Reshape", "Slice", "Squeeze", "Transpose", "Unsqueeze"}
_INITIAL_STATES = (5, 6)  # inputs of an LSTM: initial_h and initial_c
_SWAP_DIRECTION = [0, 2, 1, 3]  # (T, directions, N, H) -> (T, N, directions, H)


def fold(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return an equal model with fewer operators, stripped.

    Batch norms go into the convolutions before them, through a concatenation too; constants are
    computed once; an LSTM loses its zero states and the shape arithmetic around it.

    Raises:
        ModelError: the model cannot be folded, or the result is not a valid model.
    """
    typed = shape_inference.infer_shapes(strip(model), data_prop=True)
    graph = _optimized(ir.from_proto(typed))
    move_norm_before_concat(graph.graph)
    drop_single_channel_sum(graph.graph)
    merge_channel_slices(graph.graph)
    move_norm_before_relu(graph.graph)
    drop_zero_lstm_state(graph.graph)
    folded = strip(ir.to_proto(_optimized(graph, rewrite=True)))
    check(folded, "The folded model")
    return folded


def _optimized(model: ir.Model, *, rewrite: bool = False) -> ir.Model:
    try:
        model = rewriter.rewrite(model) if rewrite else model
        optimizer.optimize(model, input_size_limit=_NO_LIMIT, output_size_limit=_NO_LIMIT)
    except TOOL_ERRORS as error:
        raise ModelError(
            f"onnxscript {onnxscript.__version__} cannot fold this model: {brief(error)} Export it "
            "anew, with another version of the exporter."
        ) from error
    return model


def move_norm_before_concat(graph: ir.Graph) -> None:
    """Turn norm(concat(a, b)) into concat(norm(a), norm(b)): then convolutions can take them in.

    Inception and LITE normalize after they join their branches.
    """
    for norm in list(graph):
        concat = _producer(norm.inputs[0]) if norm.op_type == "BatchNormalization" else None
        if concat is None or concat.op_type != "Concat" or concat.attributes["axis"].as_int() != 1:
            continue
        if _is_trained(norm):
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
        graph.remove(norm, safe=True)  # or the concatenation would seem to have two readers


def drop_single_channel_sum(graph: ir.Graph) -> None:
    """Drop the sum over channels where there is one: LITE's fixed filters read it."""
    for node in list(graph):
        keepdims = node.attributes.get("keepdims")
        if node.op_type != "ReduceSum" or (keepdims is not None and keepdims.as_int() != 1):
            continue
        axes = _constant(node.inputs[1]) if len(node.inputs) > 1 else None
        if axes is None or axes.tolist() != [1] or channels_of(node.inputs[0]) != 1:
            continue
        if node.inputs[0] is not None and not node.outputs[0].is_graph_output():
            node.outputs[0].replace_all_uses_with(node.inputs[0])


def merge_channel_slices(graph: ir.Graph) -> None:
    """Turn concat(y[:, a:b], -y[:, c:d], ...) of a convolution's output into one convolution.

    LITE's fixed filters come once for an increase and, negated, once for a decrease. A norm behind
    them has nowhere to go but into a convolution.
    """
    for concat in list(graph):
        if concat.op_type != "Concat" or concat.attributes["axis"].as_int() != 1:
            continue
        choices = [choice for value in concat.inputs if (choice := _choice(value)) is not None]
        if len(choices) < len(concat.inputs) or len({id(c.convolution) for c in choices}) != 1:
            continue
        source = choices[0].convolution
        pieces = [source.outputs[0], *(c.first.outputs[0] for c in choices), *concat.inputs]
        here = {id(concat), *(id(_producer(value)) for value in pieces)}
        if concat.outputs[0].is_graph_output() or not all(_is_read_by(v, here) for v in pieces):
            continue  # whose name must stay; or the convolution would be computed twice
        values = [source.inputs[0]]
        before = concat.outputs[0]
        for index, value in enumerate(source.inputs[1:]):
            whole = _constant(value)
            if whole is not None:
                parts = np.concatenate([c.sign * whole[c.channels] for c in choices])
                values.append(_constant_of(graph, f"{before.name}_chosen_{index}", parts))
        output = ir.val(f"{before.name}_chosen", type=before.type, shape=before.shape)
        concat.prepend(ir.node("Conv", values, dict(source.attributes), outputs=[output]))
        before.replace_all_uses_with(output)


def move_norm_before_relu(graph: ir.Graph) -> None:
    """Turn relu(norm(relu(conv))) into relu(norm(conv)), so that the convolution can take it in.

    Of a scale s >= 0 and a shift t, relu(s relu(y) + t) = relu(s y + min(t, 0)) + max(t, 0). Where
    a shift is above 0, that is a norm of scale 1 behind an inner ReLU.
    """
    for norm in list(graph):
        relu = _producer(norm.inputs[0]) if norm.op_type == "BatchNormalization" else None
        if relu is None or relu.op_type != "Relu":
            continue
        parameters = _scale_and_shift(norm)
        if parameters is None or parameters[0].min() < 0 or _is_trained(norm):
            continue
        if not _is_convolution(relu.inputs[0]) or not _ends_in_relu(norm.outputs[0]):
            continue
        if not all(_is_read_once(node.inputs[0]) for node in (relu, norm)):
            continue  # they would be computed beside
        scale, shift = parameters
        value = _affine(graph, norm, relu.inputs[0], "inner", scale, np.minimum(shift, 0))
        if shift.max() > 0:
            inner = ir.node("Relu", [value])
            inner.outputs[0].name = f"{value.name}_relu"
            inner.outputs[0].type, inner.outputs[0].shape = value.type, value.shape
            norm.prepend(inner)
            ones = np.ones_like(shift)
            value = _affine(graph, norm, inner.outputs[0], "lowest", ones, np.maximum(shift, 0))
        norm.outputs[0].replace_all_uses_with(value)


def drop_zero_lstm_state(graph: ir.Graph) -> None:
    """Drop the zero initial states of an LSTM and the shape arithmetic behind it.

    ONNX starts at zero by itself. The exporter merges the direction axis by a reshape to a shape
    that it computes at run time; with one direction a squeeze does the same.
    """
    for node in list(graph):
        if node.op_type != "LSTM":
            continue
        for index in _INITIAL_STATES:
            if index < len(node.inputs) and _is_zero(node.inputs[index]):
                node.replace_input_with(index, None)
        _squeeze_direction(graph, node)


@dataclass(frozen=True, slots=True)
class _Choice:
    """Some channels of a convolution's output, perhaps negated."""

    convolution: ir.Node
    first: ir.Node  # that reads the convolution
    channels: slice
    sign: int


def _choice(value: ir.Value | None) -> _Choice | None:
    """Return the choice of a convolution's channels that a value is; None if it is none."""
    node, sign = _producer(value), 1
    if node is not None and node.op_type == "Neg":
        node, sign = _producer(node.inputs[0]), -1
    if node is None or node.op_type != "Slice":
        return None
    limits = [_constant(limit) for limit in node.inputs[1:]]
    source = _producer(node.inputs[0])
    if source is None or not _is_plain_convolution(source):
        return None
    if len(limits) < _SLICE or any(limit is None or limit.size != 1 for limit in limits):
        return None
    start, end, axis, *step = (int(limit.item()) for limit in limits if limit is not None)
    if axis != 1 or step not in ([], [1]):
        return None
    return _Choice(source, node, slice(start, end), sign)


def _is_plain_convolution(node: ir.Node) -> bool:
    """Return whether it has one group and constant weights, so that its channels can be picked."""
    group = node.attributes.get("group")
    constant = all(_constant(value) is not None for value in node.inputs[1:])
    return node.op_type == "Conv" and constant and (group is None or group.as_int() == 1)


def _is_trained(norm: ir.Node) -> bool:
    """Return whether a norm takes the statistics of the batch, not those that it has."""
    mode = norm.attributes.get("training_mode")
    return len(norm.outputs) != 1 or (mode is not None and mode.as_int() != 0)


def _scale_and_shift(norm: ir.Node) -> tuple[Floats, Floats] | None:
    """Return the scale and shift of a norm, (C,) each, if its parameters are constants."""
    gamma, beta, mean, variance = (_constant(value) for value in norm.inputs[1:])
    if gamma is None or beta is None or mean is None or variance is None:
        return None
    epsilon = norm.attributes.get("epsilon")
    added = _EPSILON if epsilon is None else epsilon.as_float()
    scale = gamma / np.sqrt(variance + added)  # in the type of the parameters
    return scale, beta - mean * scale


def _is_read_by(value: ir.Value | None, nodes: set[int]) -> bool:
    """Return whether nothing but these nodes, by their ids, reads a value."""
    if value is None or value.is_graph_output():
        return False
    return {id(use.node) for use in value.uses()} <= nodes


def _is_read_once(value: ir.Value | None) -> bool:
    return value is not None and len(value.uses()) == 1 and not value.is_graph_output()


def _ends_in_relu(value: ir.Value) -> bool:
    """Return whether only a ReLU reads a value, at once or where it is joined with others."""
    readers = [use.node for use in value.uses()]
    if [node.op_type for node in readers] == ["Concat"] and not value.is_graph_output():
        value = readers[0].outputs[0]
        readers = [use.node for use in value.uses()]
    return [node.op_type for node in readers] == ["Relu"] and not value.is_graph_output()


def _affine(
    graph: ir.Graph,
    norm: ir.Node,
    value: ir.Value | None,
    name: str,
    scale: Floats,
    shift: Floats,
) -> ir.Value:
    """Put a norm of this scale and shift before `norm`, and return its output."""
    zeros, ones = np.zeros_like(shift), np.ones_like(shift)
    before = norm.outputs[0]
    parameters = [
        _constant_of(graph, f"{before.name}_{name}_{part}", array)
        for part, array in zip(_NORM_PARAMETERS, (scale, shift, zeros, ones), strict=True)
    ]
    output = ir.val(f"{before.name}_{name}", type=before.type, shape=before.shape)
    attributes = dict(norm.attributes) | {"epsilon": ir.AttrFloat32("epsilon", 0.0)}
    affine = ir.node("BatchNormalization", [value, *parameters], attributes, outputs=[output])
    norm.prepend(affine)
    return output


def _constant_of(graph: ir.Graph, name: str, array: Floats) -> ir.Value:
    value = ir.val(name, const_value=ir.tensor(array))
    graph.register_initializer(value)
    return value


def _norm_of(graph: ir.Graph, norm: ir.Node, branch: ir.Value, parameters: list[Floats]) -> ir.Node:
    """Return the batch norm of one branch with its share of the parameters."""
    values = [
        _constant_of(graph, f"{branch.name}_{name}", parameter)
        for name, parameter in zip(_NORM_PARAMETERS, parameters, strict=True)
    ]
    output = ir.val(f"{branch.name}_normed", type=branch.type, shape=branch.shape)
    return ir.node("BatchNormalization", [branch, *values], dict(norm.attributes), outputs=[output])


def _squeeze_direction(graph: ir.Graph, lstm: ir.Node) -> None:
    direction = lstm.attributes.get("direction")
    if direction is not None and direction.as_string() == "bidirectional":
        return
    for transpose in _consumers(lstm.outputs[0], "Transpose"):
        perm = transpose.attributes.get("perm")
        if perm is None or list(perm.as_ints()) != _SWAP_DIRECTION:
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
    """Return whether a value is a constant of zeros, perhaps moved or repeated by operators."""
    while (node := _producer(value)) is not None and node.op_type in _STAY_ZERO:
        value = node.inputs[0]
    constant = _constant(value)
    return constant is not None and not constant.any()


def _is_convolution(value: ir.Value | None) -> bool:
    node = _producer(value)
    return node is not None and node.op_type == "Conv"


def _constant(value: ir.Value | None) -> Floats | None:
    if value is None or value.const_value is None:
        return None
    return value.const_value.numpy()


def _producer(value: ir.Value | None) -> ir.Node | None:
    return None if value is None else value.producer()


def _consumers(value: ir.Value, op_type: str) -> list[ir.Node]:
    return [use.node for use in value.uses() if use.node.op_type == op_type]
