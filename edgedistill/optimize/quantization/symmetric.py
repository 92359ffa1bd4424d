"""8 bits around zero: INT8 as TensorRT takes it, and 8-bit weights with 16-bit arithmetic.

TensorRT has no zero point and no 32-bit bias, so its parser refuses the output of ONNX Runtime's
quantizer. Here weights are signed with a scale an output channel, and stored in 8 bits before a
`DequantizeLinear`; activations are signed with one scale, and quantized where a convolution or a
dense layer takes them, nowhere else. The same files run in ONNX Runtime.

Source: TensorRT's developer guide on the placement of Q/DQ: quantize all inputs of operations with
weights, and not their outputs.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray
from onnx import shape_inference

from edgedistill.errors import ModelError
from edgedistill.io.arrays import AnyFloats, Floats
from edgedistill.optimize.execution import check_series, runner
from edgedistill.optimize.float16 import to_fp16
from edgedistill.optimize.passes.graph import check, operators, strip
from edgedistill.optimize.quantization.calibration import (
    METHODS,
    Method,
    Observe,
    Ranges,
    observe,
    ranges,
)

_WEIGHTS = {"Conv": (1,), "Gemm": (1,), "LSTM": (1, 2), "MatMul": (1,)}  # inputs that are weights
_QUANTIZED = ("Conv", "Gemm", "MatMul")  # that TensorRT computes in 8 bits
_LEVELS = 127  # on either side of zero
_LEAST = 1e-12  # range of an activation that is zero on all series
_NODE_BYTES = 160  # about the size of a node, two constants and their names in a file


def to_int8_symmetric(
    model: onnx.ModelProto,
    calibration: Floats,
    *,
    method: Method | None = None,
    observe: Observe = observe,
) -> onnx.ModelProto:
    """Return a folded model with 8-bit weights and activations for TensorRT.

    Args:
        model: folded, one input (N, C, T).
        calibration: series of the training set, (N, C, T): they set the ranges of activations.
        method: method of calibration; None takes the one with the nearest logits for them.
        observe: collects the histograms of the model's values, or returns cached ones.

    Raises:
        ConfigError: no such method.
        DataError: calibration is empty or not finite.
        ModelError: the model has an LSTM, or nothing that can be quantized.
    """
    check_series(calibration, "INT8 calibration")
    if "LSTM" in operators(model):
        raise ModelError(
            "TensorRT has no INT8 arithmetic for an LSTM. Choose w8a16 for 8-bit weights, or leave "
            "int8 out of the precisions."
        )
    histograms = observe(model, calibration)
    methods = [method] if method else METHODS
    models = [_quantized(model, ranges(histograms, one)) for one in methods]
    if len(models) == 1:
        return models[0]
    expected = runner(model)(calibration)
    misses = [np.square(runner(one)(calibration) - expected).mean() for one in models]
    return models[int(np.argmin(misses))]


def _quantized(model: onnx.ModelProto, ranges: Ranges) -> onnx.ModelProto:
    bounds = {name: max(-low, high) for name, (low, high) in ranges.items()}
    source = ir.from_proto(shape_inference.infer_shapes(strip(model)))
    nodes = [
        node
        for node in source.graph
        if node.op_type in _QUANTIZED and _weights(node) and _name(node.inputs[0]) in bounds
    ]
    if not nodes:
        raise ModelError(
            f"Nothing in this model can be quantized: it has {', '.join(operators(model))}. INT8 "
            f"needs a {', '.join(_QUANTIZED)} with constant weights. Leave int8 out of the "
            "precisions."
        )
    _quantize_activations(source.graph, nodes, bounds)
    _store_in_8_bits(source.graph, [pair for node in nodes for pair in _weights(node)])
    return _finished(source, "The INT8 model for TensorRT")


def to_w8a16(model: onnx.ModelProto, calibration: Floats) -> onnx.ModelProto:
    """Return a folded model with 8-bit weights that computes in FP16, see `to_fp16`.

    Weights so few that the nodes around them would be larger stay in 16 bits.

    Raises:
        DataError: calibration is empty or not finite.
        ModelError: no weights are worth it, or there is no FP16 form.
    """
    half = to_fp16(model, calibration)
    source = ir.from_proto(shape_inference.infer_shapes(half))
    worth = [pair for node in source.graph for pair in _weights(node) if _saved_bytes(*pair) > 0]
    if not worth:
        raise ModelError(
            "No weights of this model are so many that 8 bits would make a smaller file. Leave "
            "w8a16 out of the precisions."
        )
    _store_in_8_bits(source.graph, worth)
    return _finished(source, "The W8A16 model")


def _weights(node: ir.Node) -> list[tuple[ir.Node, int]]:
    """Return where a node takes constant weights: (node, index of the input)."""
    places = _WEIGHTS.get(node.op_type, ())
    given = [(index, node.inputs[index]) for index in places if index < len(node.inputs)]
    return [(node, i) for i, value in given if value and value.const_value is not None]


def _name(value: ir.Value | None) -> str:
    return "" if value is None else str(value.name)


def _quantize_activations(
    graph: ir.Graph, nodes: list[ir.Node], bounds: Mapping[str, float]
) -> None:
    """Put a Q/DQ pair before the first input of each node; nodes that share it share the pair."""
    zero = ir.val("zero_point", const_value=ir.tensor(np.int8(0)))
    graph.register_initializer(zero)
    rounded: dict[ir.Value, ir.Value] = {}
    for node in nodes:
        value = node.inputs[0]
        if value is None:
            continue
        if value not in rounded:
            step = np.float32(max(bounds[str(value.name)], _LEAST) / _LEVELS)
            scale = ir.val(f"{value.name}.scale", const_value=ir.tensor(step))
            graph.register_initializer(scale)
            down = ir.node("QuantizeLinear", [value, scale, zero])
            up = ir.node("DequantizeLinear", [down.outputs[0], scale, zero])
            down.outputs[0].name, up.outputs[0].name = f"{value.name}.int8", f"{value.name}.real"
            node.prepend([down, up])
            rounded[value] = up.outputs[0]
        node.replace_input_with(0, rounded[value])


def _store_in_8_bits(graph: ir.Graph, places: list[tuple[ir.Node, int]]) -> None:
    """Store weights in 8 bits; what reads them gets the old name and type."""
    read: dict[ir.Value, ir.Value] = {}
    for node, index in places:
        weights = node.inputs[index]
        if weights is None or weights.const_value is None:
            continue
        if weights not in read:
            values = weights.const_value.numpy()
            axis = _output_axis(node, values.ndim)
            whole, steps = _rounded(values, axis)
            inputs = [
                ir.val(f"{weights.name}.int8", const_value=ir.tensor(whole)),
                ir.val(f"{weights.name}.scale", const_value=ir.tensor(steps)),
            ]
            for stored in inputs:
                graph.register_initializer(stored)
            reader = ir.node("DequantizeLinear", inputs, {"axis": axis})
            node.prepend(reader)
            read[weights] = reader.outputs[0]
        node.replace_input_with(index, read[weights])
    for weights, value in read.items():
        if not weights.uses():
            del graph.initializers[str(weights.name)]
            value.name = weights.name


def _rounded(weights: AnyFloats, axis: int) -> tuple[NDArray[np.int8], AnyFloats]:
    """Return weights as whole steps, and the size of a step for each output channel."""
    others = tuple(other for other in range(weights.ndim) if other != axis)
    peaks = np.abs(weights.astype(np.float64)).max(axis=others)
    least = np.finfo(weights.dtype).smallest_subnormal  # for a channel of zeros
    steps = np.maximum(peaks / _LEVELS, least).astype(weights.dtype)
    whole = np.rint(weights.astype(np.float64) / np.expand_dims(steps.astype(np.float64), others))
    return whole.clip(-_LEVELS, _LEVELS).astype(np.int8), steps


def _output_axis(node: ir.Node, axes: int) -> int:
    """Return the axis of the weights that counts output channels (of an LSTM: gates x units)."""
    if node.op_type == "Gemm":
        flipped = node.attributes.get("transB")
        return 0 if flipped is not None and flipped.as_int() else 1
    return {"Conv": 0, "LSTM": 1}.get(node.op_type, axes - 1)


def _saved_bytes(node: ir.Node, index: int) -> int:
    """Estimate the bytes that 8 bits save of weights in 16, or in 32 where a node stays float."""
    weights = node.inputs[index]
    if weights is None or weights.const_value is None:
        return 0
    values = weights.const_value.numpy()
    channels = values.shape[_output_axis(node, values.ndim)]
    return int(values.nbytes - values.size - channels * values.itemsize) - _NODE_BYTES


def _finished(source: ir.Model, name: str) -> onnx.ModelProto:
    result = strip(ir.to_proto(source))
    check(result, name)
    return result
