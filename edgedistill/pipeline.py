"""The whole way: stages in order, each skipped when nothing it depends on has changed.

A stage folder is written beside and renamed, so it is whole or absent. Its
`stage.json` names the key it was made from (recipe sections, inputs, version) and
the hash of every file in it; equal key and hashes mean skip.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgedistill import __version__, config
from edgedistill.config import Recipe
from edgedistill.errors import DataError
from edgedistill.files import fingerprint, read_json, sha256, whole_folder, write_json, write_text
from edgedistill.report import Report, from_json
from edgedistill.stages.bundling import BUNDLE, write_bundle
from edgedistill.stages.data import prepare_data
from edgedistill.stages.measuring import measure_all
from edgedistill.stages.model import ONNX, export_student, make_variants
from edgedistill.stages.progress import Progress, silent
from edgedistill.stages.provenance import now, versions
from edgedistill.stages.reporting import REPORT_HTML, REPORT_JSON, write_report
from edgedistill.stages.student import make_student
from edgedistill.stages.teacher import make_teacher

STAGE = "stage.json"
_WORK = ".work"


@dataclass(frozen=True, slots=True)
class Result:
    """What a run ended with."""

    report: Report
    page: Path  # report.html
    bundle: Path | None  # None: the contract is broken
    stages: Mapping[str, bool]  # whether each stage had to run


def compress(recipe: Recipe, out: Path, tell: Progress = silent) -> Result:
    """Run every stage of a recipe that is not already done in `out`.

    Args:
        recipe: what to make.
        out: folder of the run; a stage that was killed goes on where it stopped.
        tell: progress.

    Raises:
        EdgeDistillError: a stage failed; what was whole before is whole still.
    """
    data = prepare_data(recipe)
    write_text(out / "recipe.yaml", config.dump(recipe))
    run = _Run(out, [__version__, data.fingerprint, recipe.seed])
    values = recipe.to_dict()
    teacher, student, model, variants, result = (
        out / name for name in ("teacher", "student", "model", "variants", "result")
    )
    run.stage(
        teacher,
        [values["teacher"], values["saliency"], values["references"], _brought(recipe)],
        lambda folder, work: make_teacher(recipe, data, folder, work, tell),
    )
    run.stage(
        student,
        [values["student"]],
        lambda folder, work: make_student(recipe, data, teacher, folder, work, tell),
    )
    run.stage(model, [], lambda folder, _: export_student(data, student, folder, tell))
    run.stage(
        variants,
        [values["optimize"]["precisions"], values["optimize"]["calibration"]],
        lambda folder, _: make_variants(recipe, data, model / ONNX, folder, tell),
    )
    run.stage(result, [values], lambda folder, _: judge(recipe, out, folder, tell))
    report = from_json(read_json(result / REPORT_JSON))
    bundle = result / BUNDLE
    return Result(
        report=report,
        page=result / REPORT_HTML,
        bundle=bundle if bundle.exists() else None,
        stages=run.ran,
    )


def judge(recipe: Recipe, stages: Path, out: Path, tell: Progress = silent) -> None:
    """Write the report, and the bundle if the contract is kept, into an existing folder.

    Args:
        recipe: contract and plan.
        stages: folder with the stage folders teacher, student and variants.
        out: folder.
        tell: progress.
    """
    outcome = measure_all(
        recipe,
        prepare_data(recipe),
        stages / "teacher",
        stages / "student",
        stages / "variants",
        tell,
    )
    write_report(outcome, out)
    if outcome.kept:
        write_bundle(outcome, out / BUNDLE)


def make_stage(
    out: Path, key: str, make: Callable[[Path, Path], None], *, work: Path | None = None
) -> None:
    """Fill a stage folder, whole or not at all.

    Args:
        out: the folder.
        key: of everything it depends on.
        make: fills (folder, work); what it leaves in `work` survives a kill.
        work: where a killed run goes on; by default beside `out`.
    """
    work = work or out.parent / _WORK / f"{out.name}-{key[:12]}"
    work.mkdir(parents=True, exist_ok=True)
    with whole_folder(out) as folder:
        make(folder, work)
        if (work / "tensorboard").exists():
            shutil.copytree(work / "tensorboard", folder / "tensorboard")
        write_json(folder / STAGE, _manifest(out.name, key, folder))
    shutil.rmtree(work)
    if not any(work.parent.iterdir()):
        work.parent.rmdir()


class _Run:
    """A chain of stages; each depends on all before it."""

    def __init__(self, out: Path, inputs: list[Any]) -> None:
        self._out, self._inputs = out, inputs
        self.ran: dict[str, bool] = {}

    def stage(self, folder: Path, inputs: list[Any], make: Callable[[Path, Path], None]) -> None:
        """Make a stage, unless the folder was made from the same inputs."""
        self._inputs = [*self._inputs, folder.name, inputs]
        key = fingerprint(self._inputs)
        self.ran[folder.name] = not _is_unchanged(folder, key)
        if self.ran[folder.name]:
            make_stage(folder, key, make)


def _is_unchanged(folder: Path, key: str) -> bool:
    try:
        manifest = read_json(folder / STAGE)
    except DataError:
        return False
    return bool(manifest["key"] == key and manifest["files"] == _hashes(folder))


def _manifest(name: str, key: str, folder: Path) -> dict[str, Any]:
    return {
        "stage": name,
        "key": key,
        "created": now(),
        "versions": versions(),
        "files": _hashes(folder),
    }


def _hashes(folder: Path) -> dict[str, str]:
    files = sorted(p for p in folder.rglob("*") if p.is_file() and p.name != STAGE)
    return {path.relative_to(folder).as_posix(): sha256(path) for path in files}


def _brought(recipe: Recipe) -> list[str]:
    """Return the hashes of the files that a brought teacher consists of."""
    named = [recipe.teacher.source, recipe.teacher.weights]
    return [sha256(Path(name)) for name in named if name is not None and Path(name).is_file()]
