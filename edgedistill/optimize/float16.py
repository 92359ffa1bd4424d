"""FP16 and BF16: the same graph with 16-bit weights and arithmetic, float32 at both ends.

The precision lives in the graph, as casts and 16-bit constants, because TensorRT builds what is
typed and nothing else. ONNX Runtime on a CPU drops the casts and computes in float32: there FP16
halves the file, gains no time, and shows the rounding of weights but not that of activations.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import onnx
import onnx_ir as ir
from onnx import shape_inference, version_converter

from edgedistill.errors import ModelError
from edgedistill.io.arrays import Floats
from edgedistill.optimize.execution import check_series, open_model
from edgedistill.optimize.passes.graph import check, strip

LARGEST = 65504.0  # of float16
SMALLEST_NORMAL = 2.0**-14  # below it float16 loses digits, below 6e-8 everything

_BF16_OPSET = 22  # the first whose convolutions and LSTMs are defined for bfloat16
_QUANTIZERS = {"Cast", "DequantizeLinear", "QuantizeLinear"}


def to_fp16(model: onnx.ModelProto, calibration: Floats) -> onnx.ModelProto:
    """Return a folded model in half precision; inputs and outputs stay float32.

    A node stays float32, between casts, if float16 cannot hold one of its constants (larger than
    65504, or all of it below 2^-14) or one of its inputs or outputs on the calibration series.
    A run on a CPU cannot reveal the latter. `single_precision` names these nodes.

    Args:
        model: folded, one input (N, C, T).
        calibration: series of the training set, (N, C, T).

    Raises:
        DataError: calibration is empty or not finite.
        ModelError: no node can be in half precision, or an operator takes none.
    """
    check_series(calibration, "FP16 range check")
    peaks = _peaks(model, calibration)
    source = ir.from_proto(shape_inference.infer_shapes(strip(model)))
    wide = [node for node in source.graph if _is_wide(node, peaks)]
    if len(wide) == len(source.graph):
        raise ModelError(
            "Every node of this model has a value or a constant that FP16 cannot hold: the largest "
            f"is {max(peaks.values()):.3g} on the calibration series, FP16 goes to {LARGEST:.0f}. "
            "Normalize the series, or leave fp16 out of the precisions."
        )
    _retype(source.graph, ir.DataType.FLOAT16, wide)
    result = strip(ir.to_proto(source))
    check(result, "The FP16 model")
    return result


def to_bf16(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a folded model in bfloat16; inputs and outputs stay float32.

    Its range is that of float32, so nothing needs to stay; of the digits it keeps two to three.
    It is of opset 22, because convolutions of older ones take no bfloat16.

    Raises:
        ModelError: an operator takes no bfloat16.
    """
    recent = version_converter.convert_version(strip(model), _BF16_OPSET)
    source = ir.from_proto(shape_inference.infer_shapes(recent))
    _retype(source.graph, ir.DataType.BFLOAT16, ())
    result = strip(ir.to_proto(source))
    check(result, "The BF16 model")
    return result


def single_precision(model: onnx.ModelProto) -> tuple[str, ...]:
    """Return the nodes of a 16-bit model that compute in float32, each by its first output."""
    source = ir.from_proto(shape_inference.infer_shapes(model))
    return tuple(
        str(node.outputs[0].name)
        for node in source.graph
        if node.op_type not in _QUANTIZERS
        and any(v.dtype == ir.DataType.FLOAT for v in (*node.inputs, *node.outputs) if v)
    )


def _peaks(model: onnx.ModelProto, series: Floats) -> dict[str, float]:
    """Return the largest |value| of every float tensor, by its name."""
    values = open_model(model)
    peaks: dict[str, float] = {}
    for one in series:
        for name, value in values(one[None]).items():
            peaks[name] = max(peaks.get(name, 0.0), float(np.abs(value).max()))
    return peaks


def _is_wide(node: ir.Node, peaks: dict[str, float]) -> bool:
    values = [value for value in (*node.inputs, *node.outputs) if value is not None]
    return any(not peaks.get(str(v.name), 0.0) <= LARGEST or _out_of_range(v) for v in values)


def _retype(graph: ir.Graph, half: ir.DataType, wide: Collection[ir.Node]) -> None:
    """Make every node compute in `half` but those in `wide`, with casts where the types change."""
    nodes, single = list(graph), set(wide)
    for value in graph.initializers.values():
        if _is_float(value) and any(use.node not in single for use in value.uses()):
            if value.const_value is not None:
                value.const_value = ir.tensor(value.const_value.numpy().astype(half.numpy()))
            value.dtype = half
    for output in (output for node in nodes if node not in single for output in node.outputs):
        if _is_float(output):
            output.dtype = half
    casts: dict[tuple[ir.Value, ir.DataType], ir.Value] = {}
    for node in nodes:
        wanted, other = (ir.DataType.FLOAT, half) if node in single else (half, ir.DataType.FLOAT)
        for index, taken in enumerate(node.inputs):
            if taken is None or taken.dtype != other:
                continue
            if (taken, wanted) not in casts:
                cast = ir.node("Cast", [taken], {"to": wanted})
                node.prepend(cast)
                casts[taken, wanted] = cast.outputs[0]
            node.replace_input_with(index, casts[taken, wanted])
    _cast_outputs(graph, half)


def _cast_outputs(graph: ir.Graph, half: ir.DataType) -> None:
    """Give the name and type of each 16-bit output to a cast behind the node that had it so far."""
    for index, value in enumerate(graph.outputs):
        if value.dtype == half:
            name = value.name
            value.name = f"{name}_half"
            cast = ir.node("Cast", [value], {"to": ir.DataType.FLOAT})
            cast.outputs[0].name = name
            cast.outputs[0].type = ir.TensorType(ir.DataType.FLOAT)
            cast.outputs[0].shape = value.shape
            graph.append(cast)
            graph.outputs[index] = cast.outputs[0]


def _is_float(value: ir.Value) -> bool:
    return value.dtype == ir.DataType.FLOAT


def _out_of_range(value: ir.Value) -> bool:
    """Whether float16 would lose a float32 constant: to infinity, or to almost nothing."""
    if value.const_value is None or not _is_float(value):
        return False
    largest = float(np.abs(value.const_value.numpy()).max(initial=0.0))
    return largest > LARGEST or 0.0 < largest < SMALLEST_NORMAL
