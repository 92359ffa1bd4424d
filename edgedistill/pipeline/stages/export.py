"""The export stage: from a torch student to verified ONNX files."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from edgedistill.data import Prepared
from edgedistill.export.explainer import export_explainer
from edgedistill.export.export import export
from edgedistill.export.predicted_map import export_explanation
from edgedistill.io.files import write_json
from edgedistill.io.progress import ProgressCallback, ignore_progress
from edgedistill.models.explained import SelfExplainingNetwork
from edgedistill.pipeline.run_folder import EXPORT_FACTS, ONNX
from edgedistill.saliency.perturbation import PerturbationPlan
from edgedistill.training import networks

EXPLAINER = "explain.onnx"
EXPLANATION = "explanation.onnx"
_EXPORT_SERIES = 64  # real series that torch and ONNX Runtime must agree on


def export_student(
    data: Prepared,
    student: Path,
    out: Path,
    on_progress: ProgressCallback = ignore_progress,
    *,
    plan: PerturbationPlan | None = None,
) -> None:
    """Write `student.onnx`, verified on validation series, into an existing folder.

    Args:
        data: its validation series are what torch and ONNX Runtime must agree on.
        student: folder of the student stage.
        out: folder.
        on_progress: progress.
        plan: if there is one, `explain.onnx` is written too: the student and its saliency; and
            `explanation.onnx` of a student that predicts its teacher's.
    """
    files = 1 if plan is None else 2
    on_progress("export", 0, files)
    module, _ = networks.open_network(student)
    series = data.validation.x[:_EXPORT_SERIES]
    facts = asdict(export(module, out / ONNX, series))
    if plan is not None:
        on_progress("export", 1, files)
        facts[EXPLAINER] = asdict(export_explainer(module, out / EXPLAINER, series, plan))
        if isinstance(module, SelfExplainingNetwork):
            facts[EXPLANATION] = asdict(export_explanation(module, out / EXPLANATION, series))
    write_json(out / EXPORT_FACTS, facts)
    on_progress("export", files, files)
