"""Variants of a student: one network, several number formats, each a file that was run.

Every file is run on calibration series before it takes its name: FP32 must give the logits of the
student, the others finite logits of the same shape. The contract judges how near those are to the
teacher's. A file for TensorRT is emulated on the CPU. A precision that only some of the runtimes
support is made for those.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import onnx

from edgedistill.errors import EdgeDistillError, ModelError, VerificationError
from edgedistill.io import files
from edgedistill.io.arrays import Floats
from edgedistill.optimize.emulation import emulate
from edgedistill.optimize.execution import TOLERANCE, assert_close, check_series, logits, runner
from edgedistill.optimize.float16 import single_precision, to_bf16, to_fp16
from edgedistill.optimize.passes.fold import fold
from edgedistill.optimize.passes.graph import load, operators, parameters
from edgedistill.optimize.passes.verified_passes import (
    Pass,
    apply,
    fastest_layout,
    folded,
    lifted,
    static_batch,
)
from edgedistill.optimize.precision_support import (
    FORMS,
    PRECISIONS,
    SHORT_NAMES,
    Precision,
    RuntimeName,
    check_forms,
)
from edgedistill.optimize.quantization.calibration import Observe, observe
from edgedistill.optimize.quantization.int8 import to_int8
from edgedistill.optimize.quantization.symmetric import to_int8_symmetric, to_w8a16
from edgedistill.optimize.student_file import load_student
from edgedistill.optimize.tensorrt_parser import check_parser, with_typed_states

__all__ = [
    "FORMS",
    "PRECISIONS",
    "Precision",
    "RuntimeName",
    "Variant",
    "VariantList",
    "check_forms",
    "fold",
    "to_bf16",
    "to_fp16",
    "to_int8",
    "to_int8_symmetric",
    "to_w8a16",
    "variants",
]

_HALVES = ("fp16", "bf16", "w8a16")  # compute in 16 bits
_CHECKED_SERIES = 64  # run through each variant before it is kept
_FINITE = sys.float_info.max  # a tolerance that only infinity and NaN miss


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """One file that a board may run."""

    name: str  # such as "ort-int8" or "trt-fp16"
    precision: str
    runtime: str
    path: Path
    size_bytes: int
    parameters: int  # of the folded network; the same number in every precision
    operators: dict[str, int]  # how often each stands in the graph
    single: tuple[str, ...] = ()  # nodes of a 16-bit form that stay float32, by their output


class VariantList(list[Variant]):
    """Variants that were written.

    Attributes:
        failures: errors of those that could not be made, by their names.
        notes: how the model differs from its file, such as a raised opset.
    """

    def __init__(self, notes: Sequence[str] = ()) -> None:
        super().__init__()
        self.failures: dict[str, EdgeDistillError] = {}
        self.notes = tuple(notes)


def variants(
    model_path: Path,
    calibration: Floats,
    out: Path,
    precisions: Sequence[Precision] = ("fp32", "fp16", "int8"),
    *,
    runtimes: Sequence[RuntimeName] = ("onnxruntime",),
    batch: int | None = None,
    observe: Observe = observe,
) -> VariantList:
    """Write a model in each precision as `out`/RUNTIME-PRECISION.onnx.

    A variant that cannot be made is listed with the reason, and the others are made.

    Args:
        model_path: path of the exported student.
        calibration: series of the training set, (N, C, T).
        out: folder, created if need be.
        precisions: number formats, of `PRECISIONS`.
        runtimes: runtimes that will run the files.
        batch: number of series that files for TensorRT are fixed to; None leaves it free.
        observe: collects the histograms of a model's values, or returns cached ones.

    Raises:
        ConfigError: no such precision or runtime, or none of the runtimes has the precision.
        DataError: calibration is empty or not finite.
        ModelError: the file is no model, or no variant can be made.
        ShapeError: the model takes series of another shape.
        VerificationError: no variant computes what it must.
    """
    check_forms(runtimes, precisions)
    check_series(calibration, "check of the variants")
    sample = calibration[:_CHECKED_SERIES]
    student = load_student(model_path, sample)
    plain, _ = apply(student.model, [folded], sample)
    result = VariantList(student.notes)
    for runtime in runtimes:
        typed = _typed_models(plain, runtime, batch, calibration, observe)
        for precision in _forms(runtime, runtimes, precisions, plain):
            path = out / f"{SHORT_NAMES[runtime]}-{precision}.onnx"
            with _collect_failure(result, path.stem):
                model = typed(precision)
                _write(model, runtime, precision, path, sample, student.logits)
                result.append(_described(model, runtime, precision, path, parameters(plain)))
    _check_any(result)
    return result


@contextmanager
def _collect_failure(variants: VariantList, name: str) -> Iterator[None]:
    try:
        yield
    except (ModelError, VerificationError) as error:
        variants.failures[name] = error


def _check_any(variants: VariantList) -> None:
    """Raise the error of all variants if there is none: the one there is, or a list of several."""
    if variants:
        return
    first = next(iter(variants.failures.values()))
    if len({str(error) for error in variants.failures.values()}) == 1:
        raise first
    reasons = " ".join(f"{name}: {error}" for name, error in variants.failures.items())
    raise type(first)(f"None of the variants can be made. {reasons}") from first


def _typed_models(
    plain: onnx.ModelProto,
    runtime: RuntimeName,
    batch: int | None,
    calibration: Floats,
    observe: Observe,
) -> Callable[[Precision], onnx.ModelProto]:
    """Return a function from a precision to the model of a runtime in it."""
    sample = calibration[:_CHECKED_SERIES]

    @cache
    def floating() -> onnx.ModelProto:
        return apply(plain, _passes(runtime, batch, sample), sample)[0]

    def typed(precision: Precision) -> onnx.ModelProto:
        # `quantize` aligns, and 8-bit convolutions are fast in one dimension
        base = plain if (runtime, precision) == ("onnxruntime", "int8") else floating()
        model = _typed(base, runtime, precision, calibration, observe)
        if runtime == "tensorrt":
            model = with_typed_states(model)
            check_parser(model)
        return model

    return typed


def _passes(runtime: RuntimeName, batch: int | None, sample: Floats) -> list[Pass]:
    if runtime == "onnxruntime":
        return [fastest_layout(sample[:1])]
    return [lifted] if batch is None else [lifted, static_batch(batch)]


def _forms(
    runtime: RuntimeName,
    runtimes: Sequence[RuntimeName],
    precisions: Sequence[Precision],
    model: onnx.ModelProto,
) -> list[Precision]:
    """Return the precisions to make; an 8-bit LSTM is left to ONNX Runtime if that is listed."""
    forms = [precision for precision in precisions if precision in FORMS[runtime]]
    if runtime == "tensorrt" and "onnxruntime" in runtimes and "LSTM" in operators(model):
        forms = [precision for precision in forms if precision != "int8"]
    return forms


def _typed(
    model: onnx.ModelProto,
    runtime: RuntimeName,
    precision: Precision,
    calibration: Floats,
    observe: Observe,
) -> onnx.ModelProto:
    if precision == "fp16":
        return to_fp16(model, calibration[:_CHECKED_SERIES])
    if precision == "bf16":
        return to_bf16(model)
    if precision == "w8a16":
        return to_w8a16(model, calibration[:_CHECKED_SERIES])
    if precision == "int8":
        make = to_int8 if runtime == "onnxruntime" else to_int8_symmetric
        return make(model, calibration, observe=observe)
    return model


def _write(
    model: onnx.ModelProto,
    runtime: RuntimeName,
    precision: Precision,
    path: Path,
    sample: Floats,
    expected: Floats,
) -> None:
    """Write one variant whole, or refuse it."""
    with files.whole_file(path) as partial:
        partial.write_bytes(model.SerializeToString())
        if runtime == "onnxruntime":
            actual = logits(partial, sample, name=path.name)
        else:
            actual = runner(emulate(load(partial)))(sample)
        tolerance = TOLERANCE if precision == "fp32" else _FINITE
        assert_close(f"The {precision.upper()} variant", expected, actual, tolerance)


def _described(
    model: onnx.ModelProto,
    runtime: RuntimeName,
    precision: Precision,
    path: Path,
    parameter_count: int,
) -> Variant:
    return Variant(
        name=path.stem,
        precision=precision,
        runtime=runtime,
        path=path,
        size_bytes=path.stat().st_size,
        parameters=parameter_count,
        operators=operators(model),
        single=single_precision(model) if precision in _HALVES else (),
    )
