"""Emulation, on the CPU of this machine, of a typed model on a device with 16-bit arithmetic.

ONNX Runtime has no bfloat16 convolution on a CPU and computes FP16 in float32, so the logits of a
file for TensorRT cannot be computed by running it here. Instead every operator computes in
float32, as a GPU accumulates, and its result is rounded to the type that the file gives it. Not
emulated: the rounding inside an operator (the states of an LSTM), and the speed.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
from onnx import shape_inference

from edgedistill.io.arrays import Floats
from edgedistill.optimize.execution import class_count, runner
from edgedistill.optimize.passes.graph import check, load, strip

_HALVES = (ir.DataType.FLOAT16, ir.DataType.BFLOAT16)
_EXACT = {  # return values of their inputs, which are rounded already
    *("Concat", "Expand", "Flatten", "Gather", "Identity", "MaxPool", "Relu", "Reshape", "Slice"),
    *("Squeeze", "Transpose", "Unsqueeze"),
}


class Emulation:
    """A model for TensorRT as a runtime of this machine: its logits, not its speed.

    Args:
        path: path of the ONNX file; its batch may be fixed.

    Raises:
        ModelError: the file is no model, or ONNX Runtime cannot run what it computes.
    """

    name = "emulation"
    can_explain = True
    changes = None

    def __init__(self, path: Path) -> None:
        model = load(path)
        self.classes = class_count(model)
        self._run = runner(emulate(model))

    def logits(self, series: Floats) -> Floats:
        """Return the logits of any number of series, (N, C, T) -> (N, K)."""
        return self._run(series)

    def describe(self) -> dict[str, str]:
        """Return the runtime, as text."""
        return {"runtime": "onnxruntime, rounding as the device would"}


def emulate(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a float32 model that rounds wherever a typed model has 16 bits.

    A model without 16-bit values comes back as it is.

    Raises:
        ModelError: the result is no valid model.
    """
    source = ir.from_proto(shape_inference.infer_shapes(strip(model)))
    for value in source.graph.initializers.values():
        if value.dtype in _HALVES and value.const_value is not None:
            value.const_value = ir.tensor(value.const_value.numpy().astype(np.float32))
            value.dtype = ir.DataType.FLOAT
    for node in list(source.graph):
        for value in node.outputs:
            if value.dtype in _HALVES:
                _round(node, value)
    result = strip(ir.to_proto(source))
    check(result, "The emulated model")
    return result


def _round(node: ir.Node, value: ir.Value) -> None:
    """Replace a 16-bit value by the float32 of its rounding wherever it is used."""
    half = value.dtype
    uses = list(value.uses())
    if node.op_type in _EXACT:
        value.dtype = ir.DataType.FLOAT
        return
    rounded = node if node.op_type == "Cast" else ir.node("Cast", [value], {"to": half})
    back = ir.node("Cast", [rounded.outputs[0]], {"to": ir.DataType.FLOAT})
    for use in uses:
        use.node.replace_input_with(use.idx, back.outputs[0])
    if rounded is not node:
        value.dtype = ir.DataType.FLOAT
        node.append([rounded, back])
    else:
        node.append(back)
