"""What the oldest supported parser of TensorRT takes, 10.1 to 10.3, and what an LSTM needs for it.

TensorRT-RTX, which the tests build with, has the newest parser and takes more. The table follows
docs/operators.md of github.com/onnx/onnx-tensorrt at 10.6, without what its changelog adds after
10.3; the rule of the LSTM follows its importer, which makes a missing initial state float32.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import onnx
import onnx_ir as ir
from onnx import shape_inference

from edgedistill.errors import ModelError
from edgedistill.optimize.passes.graph import check, strip

_FLOAT: Final = ir.DataType.FLOAT
# DOUBLE: the parser itself makes float32 of it.
_FLOATS: Final = {_FLOAT, ir.DataType.FLOAT16, ir.DataType.BFLOAT16, ir.DataType.DOUBLE}
_NUMBERS: Final = _FLOATS | {ir.DataType.INT32, ir.DataType.INT64}
_ALL: Final = _NUMBERS | {ir.DataType.BOOL}
# Types of a node's first input, by operators.
_TAKEN: Final[tuple[tuple[set[ir.DataType], str], ...]] = (
    (
        _FLOATS,
        "Acos Acosh Asin Asinh Atan Atanh AveragePool BatchNormalization Ceil Celu Clip Conv "
        "ConvTranspose Cos Cosh CumSum Dropout Einsum Elu Erf Exp Floor GRU Gemm "
        "GlobalAveragePool GlobalLpPool GlobalMaxPool GroupNormalization HardSigmoid HardSwish "
        "Hardmax InstanceNormalization IsInf LRN LSTM LayerNormalization LeakyRelu Log LogSoftmax "
        "LpNormalization LpPool MatMul MaxPool MeanVarianceNormalization PRelu Pow QuantizeLinear "
        "RNN Reciprocal Resize Round Selu Sigmoid Sin Sinh Softmax Softplus Softsign Sqrt Tan Tanh "
        "ThresholdedRelu TopK Upsample",
    ),
    (
        _NUMBERS,
        "Abs Add ArgMax ArgMin DepthToSpace Div Equal Gelu Greater GreaterOrEqual IsNaN Less "
        "LessOrEqual Max Mean Min Mod Mul Neg Pad Range ReduceL1 ReduceL2 ReduceLogSum "
        "ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare Relu "
        "ScatterElements ScatterND Shrink Sign SpaceToDepth Sub Sum",
    ),
    (
        _ALL,
        "Cast CastLike Concat ConstantOfShape Expand EyeLike Flatten Gather GatherElements "
        "GatherND Identity If Loop OneHot Reshape ReverseSequence Scan Shape Size Slice Split "
        "Squeeze Tile Transpose Trilu Unsqueeze Where",
    ),
    ({ir.DataType.BOOL}, "And Not Or Xor"),
    ({ir.DataType.INT8}, "DequantizeLinear"),
    (set(), "Constant"),  # has no input
)
_TYPES: Final = {operator: types for types, text in _TAKEN for operator in text.split()}
_MUST_BE_ZERO: Final = ("input_forget", "layout")  # attributes of an LSTM
_INITIAL_STATES: Final = (5, 6)  # inputs of an LSTM: initial_h and initial_c
_LSTM_INPUTS: Final = 7
_RECURRENCE, _BATCH_AXIS = 2, 1  # the input R, (D, 4 H, H); the axis of X, (T, N, C)


def with_typed_states(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a model whose 16-bit LSTMs start from zeros of their own type.

    ONNX starts at zero by itself. A parser up to 10.3 makes float32 of that, which a strongly typed
    network does not mix with 16 bits.

    Raises:
        ModelError: the result is no valid model.
    """
    source = ir.from_proto(shape_inference.infer_shapes(strip(model)))
    lacking = [node for node in source.graph if node.op_type == "LSTM" and _lacks_states(node)]
    if not lacking:
        return model
    for node in lacking:
        zeros = _zero_states(source.graph, node)
        node.resize_inputs(_LSTM_INPUTS)
        for index in _INITIAL_STATES:
            if node.inputs[index] is None:
                node.replace_input_with(index, zeros)
    result = strip(ir.to_proto(source))
    check(result, "The model with initial states")
    return result


def check_parser(model: onnx.ModelProto) -> None:
    """Refuse a model that a supported parser of TensorRT refuses.

    Raises:
        ModelError: with each node and the reason.
    """
    source = ir.from_proto(shape_inference.infer_shapes(strip(model)))
    reasons = [
        f"{node.op_type} {_label(node)!r} {reason}"
        for node in source.graph
        for reason in _reasons(node)
    ]
    if reasons:
        raise ModelError(
            f"TensorRT 10.3, the oldest that runs these files, does not take {'; '.join(reasons)}. "
            "Leave this precision out, or replace the operator in the network."
        )


def _lacks_states(node: ir.Node) -> bool:
    states = [node.inputs[index] if index < len(node.inputs) else None for index in _INITIAL_STATES]
    return _type(node.inputs[0]) != _FLOAT and None in states


def _zero_states(graph: ir.Graph, node: ir.Node) -> ir.Value:
    """Return zeros (D, N, H) of the LSTM's type, computed from X where N is free."""
    series, recurrence = node.inputs[0], node.inputs[_RECURRENCE]
    if series is None or series.dtype is None or recurrence is None or recurrence.shape is None:
        raise ModelError(
            f"The shapes of LSTM {_label(node)!r} cannot be inferred. Export it again."
        )
    directions, _, units = (int(size) for size in recurrence.shape.numpy())
    name, kind = f"{_label(node)}_zero", series.dtype.numpy()
    batch = series.shape[_BATCH_AXIS] if series.shape is not None else None
    if isinstance(batch, int):
        return _constant(graph, name, np.zeros((directions, batch, units), kind))
    shape = ir.node("Shape", [series])
    index = _constant(graph, f"{name}_axis", np.array([_BATCH_AXIS]))
    size = ir.node("Gather", [shape.outputs[0], index])
    ends = [
        _constant(graph, f"{name}_{end}", np.array([length]))
        for end, length in (("directions", directions), ("units", units))
    ]
    whole = ir.node("Concat", [ends[0], size.outputs[0], ends[1]], {"axis": 0})
    zero = _constant(graph, name, np.zeros((1, 1, 1), kind))
    expand = ir.node("Expand", [zero, whole.outputs[0]])
    node.prepend([shape, size, whole, expand])
    return expand.outputs[0]


def _constant(graph: ir.Graph, name: str, array: np.ndarray) -> ir.Value:
    value = ir.val(name, const_value=ir.tensor(array))
    graph.register_initializer(value)
    return value


def _reasons(node: ir.Node) -> list[str]:
    """Return why a node is refused, in words."""
    types = _TYPES.get(node.op_type)
    if types is None or node.domain:
        return ["at all"]
    reasons = []
    kind = _type(node.inputs[0]) if node.inputs else None
    if kind is not None and kind not in types:
        reasons.append(f"of {kind.name}")
    if node.op_type == "LSTM":
        floats = {_type(value) for value in node.inputs} - {None, ir.DataType.INT32}
        if len(floats) > 1:
            reasons.append(f"of mixed types, {', '.join(sorted(str(each) for each in floats))}")
        if _lacks_states(node):
            reasons.append("of 16 bits without initial states")
        attributes = [node.attributes.get(name) for name in _MUST_BE_ZERO]
        reasons += [f"with {each.name}" for each in attributes if each and each.as_int()]
    return reasons


def _label(node: ir.Node) -> str:
    """Return the node's first output; an LSTM may leave out some."""
    return next((value.name for value in node.outputs if value.name), "")


def _type(value: ir.Value | None) -> ir.DataType | None:
    return None if value is None else value.dtype
