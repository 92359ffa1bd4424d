"""The whole way: stages in order, each skipped when nothing it depends on has changed.

A stage folder is written beside and renamed, so it is whole or absent. Its
`stage.json` names the key it was made from (recipe sections, inputs, version) and
the hash of every file in it; equal key and hashes mean skip.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgedistill import __version__
from edgedistill.data import Prepared
from edgedistill.io.files import fingerprint, read_json, sha256, write_text
from edgedistill.io.progress import ProgressCallback, ignore_progress
from edgedistill.pipeline import networks
from edgedistill.pipeline.artifacts import RECIPE
from edgedistill.pipeline.extra_teachers import files
from edgedistill.pipeline.stage_folder import is_unchanged, make_stage
from edgedistill.pipeline.stages.bundle import BUNDLE, write_bundle
from edgedistill.pipeline.stages.data import prepare_data
from edgedistill.pipeline.stages.evaluate import evaluate_all
from edgedistill.pipeline.stages.export import ONNX, export_student
from edgedistill.pipeline.stages.mixed_precision import search_key
from edgedistill.pipeline.stages.optimize import optimize
from edgedistill.pipeline.stages.ort_format import format_key
from edgedistill.pipeline.stages.report import REPORT_HTML, REPORT_JSON, write_report
from edgedistill.pipeline.stages.student import make_student
from edgedistill.pipeline.stages.student_branches import branch_key
from edgedistill.pipeline.stages.teacher import make_teacher
from edgedistill.recipe import recipe as config
from edgedistill.recipe.recipe import Recipe
from edgedistill.report import Report, from_json


@dataclass(frozen=True, slots=True)
class Result:
    """What a run ended with."""

    report: Report
    page: Path  # report.html
    bundle: Path | None  # None: the contract is broken
    stages: Mapping[str, bool]  # whether each stage had to run
    costs: Mapping[str, Mapping[str, int]]  # of networks of ours: parameters, macs, size_bytes


def compress(recipe: Recipe, out: Path, on_progress: ProgressCallback = ignore_progress) -> Result:
    """Run every stage of a recipe that is not already done in `out`.

    Args:
        recipe: what to make.
        out: folder of the run; a stage that was killed goes on where it stopped.
        on_progress: progress.

    Raises:
        EdgeDistillError: a stage failed; what was whole before is whole still.
    """
    data = prepare_data(recipe)
    write_text(out / RECIPE, config.dump(recipe))
    run = _Run(out, [__version__, data.fingerprint, recipe.seed])
    values = recipe.to_dict()
    teacher, student, model, variants, result = (
        out / name for name in ("teacher", "student", "model", "variants", "result")
    )
    run.stage(
        teacher,
        [
            values["teacher"],
            values["saliency"],
            values["references"],
            _external_teacher_hashes(recipe),
            *branch_key(recipe),
        ],
        lambda folder, work: make_teacher(recipe, data, folder, work, on_progress),
    )
    run.stage(
        student,
        [values["student"], *(sha256(path) for path in files(recipe))],
        lambda folder, work: make_student(recipe, data, teacher, folder, work, on_progress),
    )
    run.stage(model, [], lambda folder, _: export_student(data, student, folder, on_progress))
    run.stage(
        variants,
        [
            values["optimize"]["precisions"],
            values["optimize"]["calibration"],
            values["optimize"]["runtimes"],
            values["optimize"]["batch"],
            *search_key(recipe),
            *format_key(recipe),
        ],
        lambda folder, work: optimize(
            recipe, data, teacher, model / ONNX, folder, work, on_progress
        ),
    )
    run.stage(
        result,
        [values],
        lambda folder, _: judge(recipe, data, teacher, student, variants, folder, on_progress),
    )
    report = from_json(read_json(result / REPORT_JSON))
    bundle = result / BUNDLE
    return Result(
        report=report,
        page=result / REPORT_HTML,
        bundle=bundle if bundle.exists() else None,
        stages=run.ran,
        costs=_costs(teacher, student),
    )


def judge(
    recipe: Recipe,
    data: Prepared,
    teacher: Path,
    student: Path,
    variants: Path,
    out: Path,
    on_progress: ProgressCallback = ignore_progress,
) -> None:
    """Write the report, and the bundle if the contract is kept, into an existing folder.

    Args:
        recipe: contract and plan.
        data: held-out series.
        teacher: folder of the teacher stage.
        student: folder of the student stage.
        variants: folder of the variant stage.
        out: folder.
        on_progress: progress.
    """
    outcome = evaluate_all(recipe, data, teacher, student, variants, on_progress)
    write_report(outcome, out)
    if outcome.is_kept:
        write_bundle(outcome, out / BUNDLE)


class _Run:
    """A chain of stages; each depends on all before it."""

    def __init__(self, out: Path, inputs: list[Any]) -> None:
        self._out, self._inputs = out, inputs
        self.ran: dict[str, bool] = {}

    def stage(self, folder: Path, inputs: list[Any], make: Callable[[Path, Path], None]) -> None:
        """Make a stage, unless the folder was made from the same inputs."""
        self._inputs = [*self._inputs, folder.name, inputs]
        key = fingerprint(self._inputs)
        self.ran[folder.name] = not is_unchanged(folder, key)
        if self.ran[folder.name]:
            make_stage(folder, key, make)


def _costs(*folders: Path) -> dict[str, dict[str, int]]:
    """Return what the networks of ours in these folders cost; a brought teacher does not tell."""
    facts = {folder.name: folder / networks.FACTS for folder in folders}
    return {name: read_json(path)["cost"] for name, path in facts.items() if path.exists()}


def _external_teacher_hashes(recipe: Recipe) -> list[str]:
    """Return the hashes of the files that a brought teacher consists of."""
    named = [recipe.teacher.source, recipe.teacher.weights]
    return [sha256(Path(name)) for name in named if name is not None and Path(name).is_file()]
