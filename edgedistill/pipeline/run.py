"""Run all stages in order, skipping unchanged ones.

A stage folder is written beside and renamed, so it is whole or absent. Its
`stage.json` names the key it was made from (recipe sections, inputs, version) and
the hash of every file in it; equal key and hashes mean skip.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from edgedistill.data import Prepared
from edgedistill.io.files import read_json, write_text
from edgedistill.io.progress import ProgressCallback, ignore_progress
from edgedistill.pipeline.keys import STAGES, Stage, stage_key
from edgedistill.pipeline.run_folder import TEACHER_FACTS, RunFolder
from edgedistill.pipeline.stage_folder import is_unchanged, make_stage
from edgedistill.pipeline.stages.data import DataCallback, ignore_data, prepare_data
from edgedistill.recipe import recipe as config
from edgedistill.recipe.recipe import Recipe
from edgedistill.report import Report, from_json
from edgedistill.training.config import FACTS


@dataclass(frozen=True, slots=True)
class Result:
    """The result of a run."""

    report: Report
    page: Path  # report.html
    bundle: Path | None  # None: the contract is broken
    stages: Mapping[Stage, bool]  # whether each stage had to run
    costs: Mapping[str, Mapping[str, int]]  # of networks of ours: parameters, macs, size_bytes
    teacher_notes: tuple[str, ...] = ()  # how an external teacher was understood


def compress(
    recipe: Recipe,
    out: Path,
    on_progress: ProgressCallback = ignore_progress,
    on_data: DataCallback = ignore_data,
) -> Result:
    """Run every stage of a recipe that is not already done in `out`.

    Args:
        recipe: recipe of the run.
        out: folder of the run; a stage that was killed resumes where it stopped.
        on_progress: progress.
        on_data: callback of what was read, before the first stage.

    Raises:
        EdgeDistillError: a stage failed; what was whole before is whole still.
    """
    ran, run = run_stages(recipe, out, on_progress, on_data), RunFolder(out)
    return Result(
        report=from_json(read_json(run.report)),
        page=run.page,
        bundle=run.bundle if run.bundle.exists() else None,
        stages=ran,
        costs=_costs(run.teacher, run.student),
        teacher_notes=tuple(read_json(run.teacher / TEACHER_FACTS).get("notes", ())),
    )


def run_stages(
    recipe: Recipe,
    out: Path,
    on_progress: ProgressCallback = ignore_progress,
    on_data: DataCallback = ignore_data,
    *,
    until: Stage = "result",
) -> dict[Stage, bool]:
    """Run the stages of a recipe up to one of them; return which had to run.

    Args:
        recipe, out, on_progress, on_data: as for `compress`.
        until: last stage.

    Raises:
        EdgeDistillError: a stage failed; what was whole before is whole still.
    """
    data, run = prepare_data(recipe, on_data), RunFolder(out)
    write_text(run.recipe, config.dump(recipe))
    ran: dict[Stage, bool] = {}
    for stage in STAGES[: STAGES.index(until) + 1]:
        key = stage_key(stage, recipe, data)
        ran[stage] = not is_unchanged(run.path / stage, key)
        if ran[stage]:
            maker = _makers(recipe, data, run, on_progress)[stage]
            make_stage(run.path / stage, key, maker)
    return ran


def _makers(
    recipe: Recipe, data: Prepared, run: RunFolder, on_progress: ProgressCallback
) -> dict[Stage, Callable[[Path, Path], None]]:
    """Return for each stage a function that fills its folder, with a working folder beside."""
    # Here, because they load torch: a wrong recipe, wrong data and a finished run do without.
    from edgedistill.pipeline.stages.export import export_student
    from edgedistill.pipeline.stages.result import make_result
    from edgedistill.pipeline.stages.student import make_student
    from edgedistill.pipeline.stages.teacher import make_teacher
    from edgedistill.pipeline.stages.variants import make_variants

    teacher, student, variants = run.teacher, run.student, run.variants
    return {
        "teacher": lambda folder, work: make_teacher(recipe, data, folder, work, on_progress),
        "student": lambda folder, work: make_student(
            recipe, data, teacher, folder, work, on_progress
        ),
        "model": lambda folder, _: export_student(data, student, folder, on_progress),
        "variants": lambda folder, work: make_variants(
            recipe, data, teacher, run.onnx, folder, work, on_progress
        ),
        "result": lambda folder, _: make_result(
            recipe, data, teacher, student, variants, folder, on_progress
        ),
    }


def _costs(*folders: Path) -> dict[str, dict[str, int]]:
    """Return the costs of the networks in these folders; an external teacher has none."""
    facts = {folder.name: folder / FACTS for folder in folders}
    return {name: read_json(path)["cost"] for name, path in facts.items() if path.exists()}
