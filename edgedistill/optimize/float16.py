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
from onnx import shape_inference

from edgedistill.errors import ModelError
from edgedistill.io.arrays import Floats
from edgedistill.optimize.execution import check_series, open_model
from edgedistill.optimize.passes.graph import check, strip
from edgedistill.optimize.passes.opset import convert, opset_of
from edgedistill.optimize.passes.retype import retype, takes

LARGEST = 65504.0  # of float16
SMALLEST_NORMAL = 2.0**-14  # below it float16 loses digits, below 6e-8 everything

_BF16_OPSET = 22  # the first whose convolutions and LSTMs are defined for bfloat16
_FLOAT, _FLOAT16 = ir.DataType.FLOAT, ir.DataType.FLOAT16
_NAMES = {ir.DataType.FLOAT16: "FP16", ir.DataType.BFLOAT16: "BF16"}
_QUANTIZERS = {"Cast", "DequantizeLinear", "QuantizeLinear"}


def to_fp16(model: onnx.ModelProto, calibration: Floats) -> onnx.ModelProto:
    """Return a folded model in half precision; inputs and outputs stay float32.

    A node stays float32, between casts, if float16 cannot hold one of its constants (larger than
    65504, or all of it below 2^-14) or one of its inputs or outputs on the calibration series, or
    if its operator takes no float16, see `retype`. A run on a CPU cannot reveal the former.
    `single_precision` names these nodes.

    Args:
        model: folded, one input (N, C, T).
        calibration: series of the training set, (N, C, T).

    Raises:
        DataError: calibration is empty or not finite.
        ModelError: no node can be in half precision.
    """
    check_series(calibration, "FP16 range check")
    peaks = _peaks(model, calibration)
    source = _typed(model)
    wide = [node for node in source.graph if _is_wide(node, peaks, source.opset_imports)]
    if wide and len(wide) == len(source.graph):
        raise ModelError(
            "Every node of this model has a value or a constant that FP16 cannot hold: the largest "
            f"is {max(peaks.values()):.3g} on the calibration series, FP16 goes to {LARGEST:.0f}. "
            "Normalize the series, or leave fp16 out of the precisions."
        )
    return _retyped(source, ir.DataType.FLOAT16, wide)


def to_bf16(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a folded model in bfloat16; inputs and outputs stay float32.

    Its range is that of float32, so only what takes no bfloat16 stays; of the digits it keeps two
    to three. It is of opset 22 or newer, because convolutions of older ones take no bfloat16.

    Raises:
        ModelError: no node can be in bfloat16, or the model cannot be of opset 22.
    """
    recent = convert(strip(model), max(_BF16_OPSET, opset_of(model)))
    return _retyped(_typed(recent), ir.DataType.BFLOAT16, ())


def single_precision(model: onnx.ModelProto) -> tuple[str, ...]:
    """Return the nodes of a 16-bit model that compute in float32, each by its first output."""
    source = _typed(model)
    return tuple(
        str(node.outputs[0].name)
        for node in source.graph
        if node.op_type not in _QUANTIZERS and _is_single(node, source.opset_imports)
    )


def _typed(model: onnx.ModelProto) -> ir.Model:
    return ir.from_proto(shape_inference.infer_shapes(strip(model)))


def _retyped(source: ir.Model, half: ir.DataType, wide: Collection[ir.Node]) -> onnx.ModelProto:
    name = _NAMES[half]
    if not retype(source, ir.DataType.FLOAT, half, wide):
        raise ModelError(
            f"No node of this model can compute in {name}: it has "
            f"{', '.join(sorted({node.op_type for node in source.graph}))}. Leave {name.lower()} "
            "out of the precisions."
        )
    result = strip(ir.to_proto(source))
    check(result, f"The {name} model")
    return result


def _peaks(model: onnx.ModelProto, series: Floats) -> dict[str, float]:
    """Return the largest |value| of every float tensor, by its name."""
    values = open_model(model)
    peaks: dict[str, float] = {}
    for one in series:
        for name, value in values(one[None]).items():
            peaks[name] = max(peaks.get(name, 0.0), float(np.abs(value).max(initial=0.0)))
    return peaks


def _is_wide(node: ir.Node, peaks: dict[str, float], opsets: dict[str, int]) -> bool:
    """Return whether float16 cannot hold what a node would take or give in it."""
    taken = [value for index, value in _floats(node) if takes(node, index, _FLOAT16, opsets)]
    values = [*taken, *node.outputs]
    return any(not peaks.get(str(v.name), 0.0) <= LARGEST or _out_of_range(v) for v in values)


def _is_single(node: ir.Node, opsets: dict[str, int]) -> bool:
    """Return whether a node gives float32, or takes it where it could take 16 bits."""
    return any(output.dtype == _FLOAT for output in node.outputs) or any(
        takes(node, index, _FLOAT16, opsets) for index, _ in _floats(node)
    )


def _floats(node: ir.Node) -> list[tuple[int, ir.Value]]:
    """Return the float32 inputs of a node, each with its index."""
    return [(i, value) for i, value in enumerate(node.inputs) if value and value.dtype == _FLOAT]


def _out_of_range(value: ir.Value) -> bool:
    """Return whether float16 would lose a float32 constant: to infinity, or to almost nothing."""
    if value.const_value is None or value.dtype != _FLOAT:
        return False
    largest = float(np.abs(value.const_value.numpy()).max(initial=0.0))
    return largest > LARGEST or 0.0 < largest < SMALLEST_NORMAL
