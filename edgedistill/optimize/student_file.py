"""The model of an ONNX file as a student: our opset, one series in, one row of logits out.

A student may come from elsewhere. What differs from a student that was exported here and can be
told is adapted: opset and IR, float64, axes of free size, further outputs. The rest is refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
from onnx import TensorProto, shape_inference

from edgedistill.errors import ModelError, ShapeError, VerificationError
from edgedistill.io.arrays import Floats
from edgedistill.optimize.execution import TOLERANCE, assert_close, logits, runner
from edgedistill.optimize.passes.graph import check, read, strip
from edgedistill.optimize.passes.opset import opset_of, with_latest_ir, with_latest_version
from edgedistill.optimize.passes.retype import retype

_FLOATS = (TensorProto.FLOAT, TensorProto.DOUBLE)
_SERIES_AXES, _LOGIT_AXES = 3, 2
_OTHER_BATCH = 1e-3  # of the largest logit, between two batches: sums in another order differ less
_ROUNDING = 1e-5  # of sums that cancel to nearly zero in all logits


@dataclass(frozen=True, slots=True)
class StudentFile:
    """A student that gives the logits of its file.

    Attributes:
        model: model in our opset, float32 at both ends.
        logits: logits of the file, (N, K).
        notes: how the model differs from the file.
    """

    model: onnx.ModelProto
    logits: Floats
    notes: tuple[str, ...]


def load_student(path: Path, series: Floats) -> StudentFile:
    """Return the student of a file, verified on series.

    A model that gives other logits in our opset keeps its own.

    Args:
        path: path of an ONNX file.
        series: series, (N, C, T); axes that the file leaves free become this C and T.

    Raises:
        ModelError: the file is no model, takes or gives something else than a student, or gives
            logits that are not finite or not of each series alone.
        ShapeError: it takes series of another shape.
        VerificationError: the student gives other logits than the file.
    """
    source = read(path)
    _check_interface(source, path)
    _check_shape(source, series.shape[1:], path)
    expected = logits(path, series).astype(np.float32)
    _check_logits(expected, path, series)
    raised, note = with_latest_version(source)
    try:
        model, notes = _adapted(raised, series, expected)
    except (ModelError, VerificationError) as error:
        if opset_of(raised) == opset_of(source):
            raise
        model, notes = _adapted(with_latest_ir(source), series, expected)
        note = f"opset {opset_of(source)} stays: in opset {opset_of(raised)}, {error}"
    return StudentFile(model, expected, (*([note] if note else []), *notes))


def _check_logits(expected: Floats, path: Path, series: Floats) -> None:
    """Refuse logits that are not finite, random, or depend on the other series of a batch."""
    if not np.isfinite(expected).all():
        bad = int((~np.isfinite(expected)).any(axis=1).sum())
        raise ModelError(
            f"{path} gives NaN or infinite logits for {bad} of {len(series)} series. Check its "
            "weights, and that the data are normalized as it needs them."
        )
    apart = np.concatenate([logits(path, part) for part in (series[:1], series[1:]) if len(part)])
    difference = float(np.abs(apart - expected).max())
    if difference > _OTHER_BATCH * float(np.abs(expected).max()) + _ROUNDING:
        raise ModelError(
            f"{path} gives other logits for the same series when other series are run with it (up "
            f"to {difference:.3g} apart): something in it is computed over the batch or is random, "
            "such as a batch norm or dropout in training mode. A board runs one series at a time; "
            "export the model in evaluation mode."
        )


def _adapted(
    model: onnx.ModelProto, series: Floats, expected: Floats
) -> tuple[onnx.ModelProto, list[str]]:
    """Return the model with the interface of a student, and notes on what changed."""
    notes = []
    if len(model.graph.output) > 1:
        left = ", ".join(value.name for value in model.graph.output[1:])
        del model.graph.output[1:]
        notes.append(f"output {model.graph.output[0].name} holds the logits, {left} is left out")
    _fix_shape(model, series.shape[1:])
    if model.graph.input[0].type.tensor_type.elem_type == TensorProto.DOUBLE:
        notes.append("float64 became float32")
    result = _in_float32(model)
    assert_close("The model as it was read", expected, runner(result)(series), TOLERANCE)
    return result, notes


def _inputs(model: onnx.ModelProto) -> list[onnx.ValueInfoProto]:
    """Return the inputs without those that have a value, as initializers did up to IR 3."""
    constants = {tensor.name for tensor in model.graph.initializer}
    return [value for value in model.graph.input if value.name not in constants]


def _check_interface(model: onnx.ModelProto, path: Path) -> None:
    inputs = _inputs(model)
    if len(inputs) != 1 or not _is_floats(inputs[0], _SERIES_AXES):
        seen = ", ".join(map(_described, inputs)) or "nothing"
        raise ModelError(
            f"{path} takes {seen}. A student takes one input, series (N, C, T) of float32 or "
            "float64: export it with these axes."
        )
    if _dim(inputs[0], 0):
        raise ModelError(
            f"{path} takes exactly {_dim(inputs[0], 0)} series a call. Export it for any number: "
            "with torch.onnx.export by dynamic_shapes, or dynamic_axes={'x': {0: 'batch'}}."
        )
    outputs = list(model.graph.output)
    if not outputs or not _is_floats(outputs[0], _LOGIT_AXES):
        seen = ", ".join(map(_described, outputs)) or "nothing"
        raise ModelError(
            f"{path} gives {seen}. The first output of a student is its logits, (N, K) of floats: "
            "export it without labels, ZipMap or further axes."
        )


def _described(value: onnx.ValueInfoProto) -> str:
    """Return name, type and axes of an input or output, such as `x float (N, 1, 24)`."""
    kind = value.type.tensor_type
    if not value.type.HasField("tensor_type"):
        return f"{value.name}, no tensor"
    axes = ", ".join(dim.dim_param or str(dim.dim_value or "?") for dim in kind.shape.dim)
    return f"{value.name} {TensorProto.DataType.Name(kind.elem_type).lower()} ({axes})"


def _is_floats(value: onnx.ValueInfoProto, axes: int) -> bool:
    kind = value.type.tensor_type
    return kind.elem_type in _FLOATS and len(kind.shape.dim) == axes


def _dim(value: onnx.ValueInfoProto, axis: int) -> int:
    return int(value.type.tensor_type.shape.dim[axis].dim_value)


def _check_shape(model: onnx.ModelProto, shape: tuple[int, ...], path: Path) -> None:
    (series,) = _inputs(model)
    wanted = tuple(_dim(series, axis) or size for axis, size in enumerate(shape, start=1))
    if wanted != shape:
        raise ShapeError(
            f"{path} takes series of shape {wanted} as (C, T); these are {shape}. Set the recipe's "
            "length to the model's, or take series of its channels."
        )


def _fix_shape(model: onnx.ModelProto, shape: tuple[int, ...]) -> None:
    """Give the axes C and T of the input their sizes, where they are free."""
    kind = model.graph.input[0].type.tensor_type
    for dim, size in zip(kind.shape.dim[1:], shape, strict=True):
        dim.dim_value = size


def _in_float32(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a model with float32 at both ends; one that takes float64 computes in float32."""
    ends = (*model.graph.input, model.graph.output[0])
    if all(value.type.tensor_type.elem_type == TensorProto.FLOAT for value in ends):
        return model
    typed = ir.from_proto(shape_inference.infer_shapes(strip(model)))
    inner = typed.graph.inputs[0].dtype == ir.DataType.FLOAT  # float64 on purpose
    retype(typed, ir.DataType.DOUBLE, ir.DataType.FLOAT, list(typed.graph) if inner else ())
    result = strip(ir.to_proto(typed))
    check(result, "The model in float32")
    return result
