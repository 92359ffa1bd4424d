"""Variants of a student: one network, several number formats, each a file that was seen to run."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx

from edgedistill import files
from edgedistill.distill.optimize.execution import TOLERANCE, Floats, check_series, hold, logits
from edgedistill.distill.optimize.graph import fold, load, operators, parameters
from edgedistill.distill.optimize.precision import to_fp16
from edgedistill.distill.optimize.quantization import to_int8
from edgedistill.errors import ConfigError

__all__ = ["PRECISIONS", "Variant", "fold", "to_fp16", "to_int8", "variants"]

PRECISIONS = ("fp32", "fp16", "int8")

_CHECKED_SERIES = 64  # run through each variant before it is kept
_FINITE = sys.float_info.max  # a tolerance that only infinity and NaN miss


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """One file that a board may run."""

    name: str  # such as "ort-int8"
    precision: str
    runtime: str
    path: Path
    size_bytes: int
    parameters: int  # of the folded network; the same number in every precision
    operators: dict[str, int]  # how often each stands in the graph


def variants(
    model_path: Path,
    calibration: Floats,
    out: Path,
    precisions: Sequence[str] = PRECISIONS,
) -> list[Variant]:
    """Write a model in each precision as `out`/ort-PRECISION.onnx, and return what was written.

    Every file is run on calibration series before it takes its name: FP32 must give the logits of
    `model_path`, the others finite logits of the same shape. How near those are to the teacher's
    is for the contract to say.

    Args:
        model_path: the exported student.
        calibration: series of the training set, (N, C, T).
        out: folder, made if need be.
        precisions: some of "fp32", "fp16", "int8".

    Raises:
        ConfigError: no such precision.
        DataError: calibration is empty or not finite.
        ModelError: the file is no model, or has no such variant.
        VerificationError: a variant does not compute what it must.
    """
    unknown = [p for p in precisions if p not in PRECISIONS]
    if unknown:
        raise ConfigError(
            f"There is no precision {unknown[0]!r}. Choose from {', '.join(PRECISIONS)}."
        )
    check_series(calibration, "check of the variants")
    folded = fold(load(model_path))
    sample = calibration[:_CHECKED_SERIES]
    expected = logits(model_path, sample)
    return [
        _written(_typed(folded, p, calibration), p, out, sample, expected, parameters(folded))
        for p in precisions
    ]


def _typed(folded: onnx.ModelProto, precision: str, calibration: Floats) -> onnx.ModelProto:
    if precision == "fp16":
        return to_fp16(folded, calibration[:_CHECKED_SERIES])
    return to_int8(folded, calibration) if precision == "int8" else folded


def _written(
    model: onnx.ModelProto,
    precision: str,
    out: Path,
    sample: Floats,
    expected: Floats,
    parameter_count: int,
) -> Variant:
    """Write one variant whole, or refuse it."""
    path = out / f"ort-{precision}.onnx"
    with files.whole_file(path) as partial:
        partial.write_bytes(model.SerializeToString())
        tolerance = TOLERANCE if precision == "fp32" else _FINITE
        hold(f"The {precision.upper()} variant", expected, logits(partial, sample), tolerance)
    return Variant(
        name=f"ort-{precision}",
        precision=precision,
        runtime="onnxruntime",
        path=path,
        size_bytes=path.stat().st_size,
        parameters=parameter_count,
        operators=operators(model),
    )
