"""FP16: the same graph with half-precision weights and arithmetic, float32 at both ends.

The precision lives in the graph, as casts and half-precision constants, because TensorRT builds
what is typed and nothing else. ONNX Runtime on a CPU drops the casts and computes in float32: there
FP16 halves the file, gains no time, and shows the rounding of weights but not that of activations.
"""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
from onnx import shape_inference

from edgedistill.distill.optimize.execution import Floats, check_series, largest_value
from edgedistill.distill.optimize.graph import check, strip
from edgedistill.errors import ModelError

LARGEST = 65504.0  # of float16
SMALLEST_NORMAL = 2.0**-14  # below it float16 loses digits, below 6e-8 everything


def to_fp16(model: onnx.ModelProto, calibration: Floats) -> onnx.ModelProto:
    """Return a folded model in half precision; inputs and outputs stay float32.

    A constant that float16 cannot hold (larger than 65504, or all of it below 2^-14) stays
    float32, and so does the arithmetic of the node that uses it, between two casts.

    Args:
        model: folded, one input (N, C, T).
        calibration: series of the training set, (N, C, T): what the model computes from them
            must lie within the range of float16, which no run on a CPU would show.

    Raises:
        DataError: calibration is empty or not finite.
        ModelError: a value is beyond 65504, or an operator takes no half precision.
    """
    check_series(calibration, "FP16 range check")
    largest = largest_value(model, calibration)
    if largest > LARGEST:
        raise ModelError(
            f"A value in this model reaches {largest:.3g} on the calibration series; FP16 holds "
            f"{LARGEST:.0f}. Normalize the series, or leave fp16 out of the precisions."
        )
    half = ir.from_proto(shape_inference.infer_shapes(strip(model)))
    graph = half.graph
    values = {v for node in graph for v in (*node.inputs, *node.outputs) if v is not None}
    floats = {value for value in values if value.dtype == ir.DataType.FLOAT}
    wide = [node for node in graph if any(_out_of_range(value) for value in node.inputs)]
    _cast_outputs(graph)
    for node in wide:
        _make_island(node, floats)
    _cast_inputs(graph)
    for value in floats:
        if value.const_value is not None and not _out_of_range(value):
            value.const_value = ir.tensor(value.const_value.numpy().astype(np.float16))
            value.dtype = ir.DataType.FLOAT16
    result = strip(ir.to_proto(half))
    check(result, "The FP16 model")
    return result


def _make_island(node: ir.Node, floats: set[ir.Value]) -> None:
    """Put casts around a node, so that it computes in float32 among half-precision nodes."""
    for index, value in enumerate(node.inputs):
        if value in floats and not _out_of_range(value):
            cast = ir.node("Cast", [value], {"to": ir.DataType.FLOAT})
            node.prepend(cast)
            node.replace_input_with(index, cast.outputs[0])
    for value in node.outputs:
        if value in floats:
            cast = _cast_of_all_uses(value)
            node.append(cast)
            floats.add(cast.outputs[0])  # an island may be next to another


def _cast_inputs(graph: ir.Graph) -> None:
    for value in graph.inputs:
        if value.dtype == ir.DataType.FLOAT:
            graph.insert_before(graph[0], _cast_of_all_uses(value))


def _cast_outputs(graph: ir.Graph) -> None:
    """Give each output's name and type to a cast behind the node that had it so far."""
    for index, value in enumerate(graph.outputs):
        if value.dtype == ir.DataType.FLOAT:
            output = ir.val(value.name, type=value.type, shape=value.shape)
            value.name = f"{value.name}_half"
            graph.append(ir.node("Cast", [value], {"to": ir.DataType.FLOAT}, outputs=[output]))
            graph.outputs[index] = output


def _cast_of_all_uses(value: ir.Value) -> ir.Node:
    """Return a cast to half precision that stands between a value and all who use it."""
    uses = list(value.uses())
    cast = ir.node("Cast", [value], {"to": ir.DataType.FLOAT16})
    for use in uses:
        use.node.replace_input_with(use.idx, cast.outputs[0])
    return cast


def _out_of_range(value: ir.Value | None) -> bool:
    """Whether float16 would lose a float32 constant: to infinity, or to almost nothing."""
    if value is None or value.const_value is None or value.dtype != ir.DataType.FLOAT:
        return False
    largest = float(np.abs(value.const_value.numpy()).max(initial=0.0))
    return largest > LARGEST or 0.0 < largest < SMALLEST_NORMAL
