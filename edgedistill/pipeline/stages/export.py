"""The export and variant stages: from a torch student to verified ONNX files."""

from __future__ import annotations

from dataclasses import asdict
from hashlib import sha256
from pathlib import Path

import numpy as np

from edgedistill.bundle.reader import Model
from edgedistill.data import Prepared
from edgedistill.data.splits import hold_out
from edgedistill.errors import DataError, ModelError
from edgedistill.export.explainer import export_explainer
from edgedistill.export.export import export
from edgedistill.export.predicted_map import export_explanation
from edgedistill.io.arrays import Floats
from edgedistill.io.files import read_json, write_json
from edgedistill.io.progress import ProgressCallback, ignore_progress
from edgedistill.models import SelfExplainingNetwork
from edgedistill.optimize.quantization.calibration import Observe, observe
from edgedistill.optimize.variants import variants
from edgedistill.pipeline import networks
from edgedistill.pipeline.run_folder import EXPORT_FACTS, ONNX
from edgedistill.recipe.recipe import Recipe
from edgedistill.saliency.perturbation import PerturbationPlan

VARIANTS = "variants.json"
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


def make_variants(
    recipe: Recipe,
    data: Prepared,
    model: Path,
    out: Path,
    on_progress: ProgressCallback = ignore_progress,
    *,
    observe: Observe = observe,
) -> None:
    """Write the typed variants of an ONNX file into an existing folder.

    Args:
        recipe: which precisions, for which runtimes.
        data: its training series calibrate INT8.
        model: the exported student.
        out: folder.
        on_progress: progress.
        observe: collects what a model's values are on the calibration series, or knows it.
    """
    on_progress("optimize", 0, 1)
    series = calibration_series(data, recipe.optimize.calibration, recipe.seed)
    made = variants(
        model,
        series,
        out,
        recipe.optimize.precisions,
        runtimes=recipe.optimize.runtimes,
        batch=recipe.optimize.batch,
        observe=observe,
    )
    facts = [{**asdict(variant), "path": variant.path.name} for variant in made]
    calibration = {"series": len(series), "sha256": sha256(series.tobytes()).hexdigest()}
    write_json(out / VARIANTS, {"variants": facts, "calibration": calibration})
    on_progress("optimize", 1, 1)


def open_variants(folder: Path) -> list[Model]:
    """Return the models of a folder that `make_variants` filled.

    Raises:
        ModelError: the folder does not hold variants.
    """
    try:
        return [
            Model(
                name=entry["name"],
                path=folder / entry["path"],
                runtime=entry["runtime"],
                precision=entry["precision"],
                parameters=entry["parameters"],
            )
            for entry in read_json(folder / VARIANTS)["variants"]
        ]
    except (DataError, KeyError, TypeError) as error:
        raise ModelError(
            f"{folder} does not hold variants ({error}). Run `edgedistill optimize` again."
        ) from error


def calibration_series(data: Prepared, count: int, seed: int) -> Floats:
    """Return about `count` training series, class by class in proportion."""
    series = data.train.x
    if len(series) <= count:
        return series
    labels = [str(label) for label in data.train.y]
    rows = np.array(hold_out(labels, count / len(series), [seed]))
    chosen: Floats = series[rows]
    return chosen
