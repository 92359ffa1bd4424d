"""Speed of the judged variant beside its teacher's: in one runtime, in one run.

A teacher in torch against a student in ONNX Runtime would be a comparison of runtimes. So the
teacher is exported where it can be, goes through the passes that the student went through, and
both are timed in alternation: on one thread, one series a call.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import torch

from edgedistill.bundle.reader import Model
from edgedistill.device.benchmark import measure_interleaved
from edgedistill.device.runtime import start
from edgedistill.errors import EdgeDistillError
from edgedistill.export.export import export
from edgedistill.io.arrays import Floats
from edgedistill.optimize.variants import variants
from edgedistill.report import SpeedComparison
from edgedistill.runtimes.onnxruntime import OrtRuntime
from edgedistill.saliency.classifier import Classifier
from edgedistill.teachers.columns import unwrapped
from edgedistill.teachers.estimator import EstimatorClassifier
from edgedistill.teachers.onnx import OnnxClassifier
from edgedistill.teachers.torch import TorchClassifier

_EXPORT_SERIES = 16  # real series that torch and the exported teacher must agree on
_TOLERANCE = 1e-3  # of its largest logit: a deep teacher's rounding changes no time


def compare_speed(model: Model, teacher: Classifier, series: Floats) -> SpeedComparison | None:
    """Time a variant and its teacher in alternation.

    Args:
        model: the variant.
        teacher: the teacher as it was trained or brought.
        series: real series, (N, C, T); the first is timed.

    Returns:
        None for a model that cannot be timed here.
    """
    if model.runtime != OrtRuntime.name:
        return None
    teacher = unwrapped(teacher)  # to put columns in order takes no time
    with tempfile.TemporaryDirectory(prefix="edgedistill-") as folder, one_thread():
        exported, reason = _in_onnxruntime(teacher, series[:_EXPORT_SERIES], Path(folder))
        contestants: dict[str, Classifier] = {"model": start(model, threads=1, exact_int8=False)}
        if exported is not None:
            contestants["exported"] = exported
        if not isinstance(teacher, OnnxClassifier):
            contestants["native"] = teacher
        times = measure_interleaved(list(contestants.values()), series[:1])
    time_ms = dict(zip(contestants, times, strict=True))
    return SpeedComparison(
        model=model.name,
        runtime=model.runtime,
        model_ms=time_ms["model"],
        teacher_ms=time_ms.get("exported"),
        native_runtime=runtime_name(teacher),
        native_ms=time_ms.get("native"),
        reason=reason,
    )


def runtime_name(teacher: Classifier) -> str:
    """Return the runtime of a teacher as it was trained or brought.

    An estimator's is the package that defines it, such as "sklearn" or "aeon".
    """
    if isinstance(teacher, EstimatorClassifier):
        return type(teacher.estimator).__module__.partition(".")[0]
    names = {TorchClassifier: "torch", OnnxClassifier: OrtRuntime.name}
    return next((name for kind, name in names.items() if isinstance(teacher, kind)), "python")


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch compute on one thread, as the variants do."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _in_onnxruntime(
    teacher: Classifier, series: Floats, folder: Path
) -> tuple[Classifier | None, str | None]:
    """Return the teacher in ONNX Runtime, or why it cannot run there."""
    if isinstance(teacher, OnnxClassifier):
        return teacher.on_one_thread(), None
    if not isinstance(teacher, TorchClassifier):
        return None, f"{teacher.name} is no torch module, which alone can be exported."
    path = folder / "teacher.onnx"
    try:
        export(teacher.module, path, series, tolerance=_TOLERANCE)
        with suppress(EdgeDistillError):  # then as it was exported
            path = variants(path, series, folder, ["fp32"])[0].path
        return OrtRuntime(path), None
    except EdgeDistillError as error:
        return None, str(error)
