"""The variant stage whole: typed variants, what a search adds to them, and other file formats."""

from __future__ import annotations

from pathlib import Path

from edgedistill.data import Prepared
from edgedistill.io.progress import ProgressCallback, ignore_progress
from edgedistill.optimize.quantization.calibration import cached_observer
from edgedistill.pipeline.stages.export import make_variants
from edgedistill.pipeline.stages.mixed_precision import search_variants
from edgedistill.pipeline.stages.ort_format import add_formats
from edgedistill.recipe.recipe import Recipe

CALIBRATION = "calibration"


def optimize(
    recipe: Recipe,
    data: Prepared,
    teacher: Path | None,
    model: Path,
    out: Path,
    work: Path,
    on_progress: ProgressCallback = ignore_progress,
) -> None:
    """Write all that the recipe asks for of an ONNX file into an existing folder.

    Args:
        recipe: precisions, runtimes, search, formats.
        data: training series calibrate, validation series judge.
        teacher: folder of the teacher stage; None if the recipe asks for no search.
        model: the exported student.
        out: folder.
        work: folder for what a killed search goes on from. Beside it lie the histograms of the
            calibration, which spare the next run the collecting; they may be removed.
        on_progress: progress.
    """
    observe = cached_observer(work.parent / CALIBRATION)
    make_variants(recipe, data, model, out, on_progress, observe=observe)
    if teacher is not None:
        search_variants(recipe, data, teacher, model, out, work, on_progress, observe=observe)
    add_formats(recipe, data, out)
