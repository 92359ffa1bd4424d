"""The mean over time as a pooling, which ONNX Runtime computes in 8 bits."""

from __future__ import annotations

from collections.abc import Container
from typing import Any

import onnx
from onnx import helper, numpy_helper, shape_inference

from edgedistill.optimize.quantization.calibration import Ranges

SUFFIX = "_pooled"  # of a pooling's output, behind the name of the mean
_SERIES = 3  # axes of (N, C, T)


def mean_as_pool(
    model: onnx.ModelProto, activations: Ranges, float_nodes: Container[str]
) -> tuple[onnx.ModelProto, Ranges]:
    """Return an equal model that pools where it took the mean over time, and its ranges.

    A mean is computed in float32: its input is converted to it, and its output back. Next to a
    node that stays float, that is right.

    Args:
        model: folded model with the names of `with_node_names`.
        activations: ranges of its float values; not modified.
        float_nodes: names of nodes that stay float.
    """
    result = onnx.ModelProto()
    result.CopyFrom(model)
    ranks = _ranks(model)
    constants = {i.name: numpy_helper.to_array(i) for i in model.graph.initializer}
    floats = {
        name for n in model.graph.node if n.name in float_nodes for name in (*n.input, *n.output)
    }
    nodes, ranges = [], dict(activations)
    for node in model.graph.node:
        mean = node.output[0]
        if not _is_mean_over_time(node, ranks, constants) or {mean, node.input[0]} & floats:
            nodes.append(node)
            continue
        pool = f"{mean}{SUFFIX}"
        nodes.append(helper.make_node("GlobalAveragePool", node.input[:1], [pool], node.name))
        nodes.append(helper.make_node("Flatten", [pool], [mean], f"{node.name}_flat", axis=1))
        if mean in activations:
            ranges[pool] = activations[mean]
    del result.graph.node[:]
    result.graph.node.extend(nodes)
    return result, ranges


def _ranks(model: onnx.ModelProto) -> dict[str, int]:
    typed = shape_inference.infer_shapes(model).graph
    return {
        value.name: len(value.type.tensor_type.shape.dim)
        for value in (*typed.input, *typed.value_info)
    }


def _is_mean_over_time(
    node: onnx.NodeProto, ranks: dict[str, int], constants: dict[str, Any]
) -> bool:
    """Return whether a node maps (N, C, T) to (N, C) by the mean over time."""
    if node.op_type != "ReduceMean" or ranks.get(node.input[0]) != _SERIES:
        return False
    attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    axes = constants.get(node.input[1]) if len(node.input) > 1 else attributes.get("axes")
    if axes is None or attributes.get("keepdims", 1):
        return False
    return [int(axis) % _SERIES for axis in axes] == [_SERIES - 1]
