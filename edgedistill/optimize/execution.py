"""Run a model in ONNX Runtime, and compare its logits with those expected.

One thread on the CPU, INT8 exact: every machine has that, and it gives the same numbers each time.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import shape_inference
from onnxruntime.capi import onnxruntime_pybind11_state as status

from edgedistill.errors import DataError, ModelError, VerificationError
from edgedistill.io.arrays import Floats
from edgedistill.teachers.exact_session import exact_session

TOLERANCE = 1e-5  # of the largest |logit|, the custom for FP32; float32 itself resolves 1e-7

_FLOAT = onnx.TensorProto.FLOAT
_SILENT = 4  # errors come as exceptions too
REFUSALS = (  # all that ONNX Runtime raises; it has no base class for them
    UnicodeDecodeError,  # of a name in the file that is no text
    status.EPFail,
    status.Fail,
    status.InvalidArgument,
    status.InvalidGraph,
    status.InvalidProtobuf,
    status.NoSuchFile,
    status.NotImplemented,
    status.RuntimeException,
)


def logits(
    path: Path, series: Floats, *, name: str | None = None, exact_int8: bool = True
) -> Floats:
    """Return the logits (N, K) of a model file for series (N, C, T).

    Args:
        path: path of an ONNX or .ort file.
        series: series of one batch.
        name: name in messages; None: that of the file.
        exact_int8: compute INT8 as boards do; False to compare with an .ort file, which cannot.

    Raises:
        ModelError: ONNX Runtime cannot load the file or run it on these series.
    """
    name = name or path.name
    return _logits(_load(path, name, exact_int8=exact_int8), name, series)


def runner(model: onnx.ModelProto) -> Callable[[Floats], Floats]:
    """Return a function from any number of series (N, C, T) to their logits (N, K).

    A model of a fixed batch runs as often as it must; the last series fills the last batch.

    Raises:
        ModelError: ONNX Runtime cannot load the model; or, when called, run it on these series.
    """
    session = _load(model, "the model")
    fixed = _fixed_batch(model)

    def logits_of(series: Floats) -> Floats:
        size = fixed or len(series)
        parts = [series[start : start + size] for start in range(0, len(series), size)]
        logits = [_logits(session, "the model", _filled(part, size)) for part in parts]
        result: Floats = np.concatenate(logits)[: len(series)]
        return result

    return logits_of


def open_model(model: onnx.ModelProto) -> Callable[[Floats], dict[str, Floats]]:
    """Return a function from series (N, C, T) to all float tensors of a model, by name.

    If the model's batch is fixed and larger, the last series fills it, in the values too.

    Raises:
        ModelError: ONNX Runtime cannot load the model; or, when called, run it on these series.
    """
    inferred = shape_inference.infer_shapes(model)
    floats = [v for v in inferred.graph.value_info if v.type.tensor_type.elem_type == _FLOAT]
    inferred.graph.output.extend(floats)
    session = _load(inferred, "the model")
    names = [output.name for output in session.get_outputs()]
    input_name = session.get_inputs()[0].name
    fixed = _fixed_batch(model)

    def values(series: Floats) -> dict[str, Floats]:
        full = _filled(series, fixed)
        return {
            input_name: full,
            **dict(zip(names, _run_session(session, "the model", full), strict=True)),
        }

    return values


def class_count(model: onnx.ModelProto) -> int:
    """Return K, the columns of a model's first output; 0 where the file leaves them open."""
    dims = model.graph.output[0].type.tensor_type.shape.dim
    return int(dims[-1].dim_value) if dims else 0


def check_series(series: Floats, purpose: str) -> None:
    """Refuse series that no model can be checked or calibrated with.

    Raises:
        DataError: no series, not (N, C, T) float32, or values that are not finite.
    """
    if series.ndim != 3 or len(series) == 0:
        raise DataError(
            f"The {purpose} needs at least one series as (N, C, T), got an array of shape "
            f"{series.shape}. Give it series of the training set."
        )
    if series.dtype != np.float32 or not np.isfinite(series).all():
        bad = int((~np.isfinite(series)).sum())
        raise DataError(
            f"The {purpose} needs finite float32 series, got {series.dtype} with {bad} values "
            "that are not finite. Prepare the series first."
        )


def errors(expected: Floats, actual: Floats) -> tuple[float, float]:
    """Return the largest difference of logits, as it is and over the largest |logit|.

    That scale is at least 1: a softmax depends on differences of logits as they are, so a model
    with tiny logits need not be more exact than one with ordinary ones. Values that are not
    finite are infinitely far.

    >>> errors(np.array([[8.0, -2.0]]), np.array([[8.0, -1.0]]))
    (1.0, 0.125)
    """
    if not np.isfinite(actual).all():
        return float("inf"), float("inf")
    worst = float(np.abs(expected - actual).max())
    return worst, worst / max(1.0, float(np.abs(expected).max()))


def assert_close(
    name: str, expected: Floats, actual: Floats, tolerance: float
) -> tuple[float, float]:
    """Return `errors`, refusing those beyond the tolerance.

    Raises:
        VerificationError: other shapes, or a relative error above `tolerance`.
    """
    if expected.shape != actual.shape:
        raise VerificationError(
            f"{name} gives logits of shape {actual.shape} where {expected.shape} is expected. "
            "Nothing was written."
        )
    absolute, relative = errors(expected, actual)
    if not relative <= tolerance:
        raise VerificationError(
            f"{name} misses the logits it must give by {absolute:.3g}, {relative:.3g} of the "
            f"largest logit; {tolerance:.3g} is allowed. Nothing was written."
        )
    return absolute, relative


def _fixed_batch(model: onnx.ModelProto) -> int:
    """Return the batch size of a model, 0 if it takes any number of series."""
    return int(model.graph.input[0].type.tensor_type.shape.dim[0].dim_value)


def _filled(series: Floats, size: int) -> Floats:
    """Return series followed by the last one as often as a batch of `size` needs."""
    missing = max(0, size - len(series))
    return np.concatenate([series, np.repeat(series[-1:], missing, axis=0)]) if missing else series


def _load(
    model: Path | onnx.ModelProto, name: str, *, exact_int8: bool = True
) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = _SILENT
    try:
        if exact_int8 or isinstance(model, onnx.ModelProto):
            return exact_session(model, options)
        return onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    except REFUSALS as error:
        raise ModelError(
            f"ONNX Runtime {onnxruntime.__version__} cannot run {name}: {_reason(error)}"
        ) from error


def _run_session(session: onnxruntime.InferenceSession, name: str, series: Floats) -> list[Floats]:
    taken = session.get_inputs()[0]
    try:
        result: list[Floats] = session.run(None, {taken.name: series.astype(_numpy(taken.type))})
    except (*REFUSALS, ValueError) as error:  # the latter where it takes something else as well
        raise ModelError(
            f"ONNX Runtime {onnxruntime.__version__} cannot run {name} on series "
            f"{series.shape}: {_reason(error)}"
        ) from error
    return result


def _logits(session: onnxruntime.InferenceSession, name: str, series: Floats) -> Floats:
    logits: Floats | list[object] = _run_session(session, name, series)[0]
    if not isinstance(logits, np.ndarray) or logits.ndim == 0:
        raise ModelError(
            f"The first output of {name} is no tensor of logits, (N, K). Export it without labels "
            "and ZipMap."
        )
    return logits


def _numpy(kind: str) -> type[np.floating[Any]]:
    """Return the type of NumPy in which ONNX Runtime takes a tensor of floats."""
    return np.float64 if kind == "tensor(double)" else np.float32


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
