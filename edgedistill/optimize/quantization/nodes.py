"""The nodes of a folded model by stable names, and those that can be quantized."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper
from onnxruntime.quantization.registry import QDQRegistry, QLinearOpsRegistry

from edgedistill.errors import ConfigError
from edgedistill.optimize.passes.graph import operators

STATIC = ("Conv", "Gemm", "MatMul")  # have weights that the static form can quantize
CUTS = {"Clip", "Relu"}  # part of the node before: the range of unsigned 8 bits does the same
TYPES = sorted({*QDQRegistry, *QLinearOpsRegistry})  # that ONNX Runtime's quantizer supports

_KEEP_RANGES = {"Concat", "Neg", "Relu", "Slice"}  # operators behind which channels stay as unlike
_MOVES = {  # only move values: in 8 bits they lose nothing
    *("Flatten", "Gather", "GatherElements", "MaxPool", "Pad", "Reshape", "Resize", "Slice"),
    *("Split", "Squeeze", "Transpose", "Unsqueeze"),
}


def with_node_names(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a model whose nodes are named by operator and place: Conv_0, Relu_0, Conv_1."""
    result = onnx.ModelProto()
    result.CopyFrom(model)
    counts: dict[str, int] = {}
    for node in result.graph.node:
        place = counts.setdefault(node.op_type, 0)
        node.name = f"{node.op_type}_{place}"
        counts[node.op_type] += 1
    return result


def nodes(model: onnx.ModelProto) -> tuple[str, ...]:
    """Return the nodes of a folded model that lose something in 8 bits, named by `with_node_names`.

    A ReLU belongs to the node before it, and a node that only moves values loses nothing.
    """
    whole = with_node_names(model)
    if not is_static(model):
        return tuple(node.name for node in whole.graph.node if node.op_type == "LSTM")
    fixed = set(fixed_nodes(whole))
    types = set(TYPES) - CUTS - _MOVES
    return tuple(
        node.name
        for node in whole.graph.node
        if node.op_type in types | {"LSTM"} and node.name not in fixed
    )


def is_static(model: onnx.ModelProto) -> bool:
    """Return whether static Q/DQ pays.

    Behind an LSTM only the dense head is left, whose few weights weigh less than the nodes that
    would quantize them.
    """
    present = operators(model)
    return "Conv" in present or ("LSTM" not in present and any(name in present for name in STATIC))


def check_nodes(model: onnx.ModelProto, keep: frozenset[str]) -> None:
    """Refuse names that `nodes` does not return.

    Raises:
        ConfigError: there is such a name; the message lists the valid ones.
    """
    known = nodes(model)
    unknown = sorted(keep - set(known))
    if unknown:
        raise ConfigError(
            f"There is no node {unknown[0]!r} to keep float. Choose from {', '.join(known)}."
        )


def with_cuts(model: onnx.ModelProto, keep: frozenset[str]) -> list[str]:
    """Return the nodes that stay float, each with the ReLU behind it."""
    kept = set(keep)
    by_output = {name: node for node in model.graph.node for name in node.output}
    for node in model.graph.node:
        before = by_output.get(node.input[0]) if node.op_type in CUTS else None
        if before is not None and before.name in kept:
            kept.add(node.name)
    return sorted(kept)


def fixed_nodes(model: onnx.ModelProto) -> list[str]:
    """Return the nodes from convolutions to a batch norm that did not fold into them.

    Such a norm scales channels of unlike ranges to one. LITE's fixed filters span 2 to 96 time
    steps: on a scale that they share, the small ones would be lost. These nodes stay float.
    Of a norm that scales all channels alike only the norm itself does: in 8 bits its shifts would
    share a scale.
    """
    producers = {name: node for node in model.graph.node for name in node.output}
    constants = {i.name: numpy_helper.to_array(i) for i in model.graph.initializer}
    found = []
    for node in model.graph.node:
        if node.op_type == "BatchNormalization":
            path = _path_to_convolutions(node, producers)
            found += path[:1] if _is_even(node, constants) else path
    return found


def _is_even(norm: onnx.NodeProto, constants: dict[str, np.ndarray[Any, Any]]) -> bool:
    """Return whether gamma, and the variance, are the same in all channels."""
    parts = [constants.get(norm.input[place]) for place in (1, 4)]
    return all(part is not None and np.ptp(part) == 0 for part in parts)


def _path_to_convolutions(norm: onnx.NodeProto, producers: dict[str, onnx.NodeProto]) -> list[str]:
    """Return the names from `norm` back to convolutions; none if something else is among them."""
    path, ahead = [norm.name], [norm.input[0]]
    while ahead:
        node = producers.get(ahead.pop())
        if node is None or node.op_type not in _KEEP_RANGES | {"Conv"}:
            return []
        path.append(node.name)
        if node.op_type == "Slice":
            ahead.append(node.input[0])
        elif node.op_type != "Conv":
            ahead.extend(node.input)
    return path
