"""Keys of stages: a fingerprint of everything that a stage depends on.

A stage folder with an equal key need not be made again, by whichever command it was made; a
killed stage is resumed under an equal key only.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from edgedistill import __version__
from edgedistill.data import Prepared
from edgedistill.io.files import fingerprint, sha256
from edgedistill.pipeline.external_teacher import external_hashes, probe_outputs
from edgedistill.pipeline.run_folder import ONNX, TEACHER_OUTPUTS
from edgedistill.pipeline.stage_folder import file_hashes, is_unchanged
from edgedistill.recipe.recipe import Recipe
from edgedistill.recipe.schema import COLUMN_SETTINGS, ModelSection, TeacherSection
from edgedistill.training.config import WEIGHTS

Stage = Literal["teacher", "student", "model", "variants", "result"]
_LATER = {  # keys of sections that the first version did not have
    "data": (*COLUMN_SETTINGS, "unlabeled"),
    "teacher": ("class_names", "arguments"),
    "student": ("source", "weights", "arguments"),
}
STAGES: tuple[Stage, ...] = ("teacher", "student", "model", "variants", "result")


def stage_key(
    stage: Stage,
    recipe: Recipe,
    data: Prepared,
    inputs: Mapping[Stage, Path] | None = None,
    *,
    options: Mapping[str, Any] | None = None,
) -> str:
    """Return the key of everything that a stage depends on.

    Args:
        stage: name of the stage.
        recipe: recipe of the stage.
        data: series of the recipe.
        inputs: folders of earlier stages that it reads; of "model", the file. A folder that this
            recipe makes is named by the recipe; of another one, the contents count. None: all
            are those of the recipe, as in a run.
        options: what it depends on besides, which a run leaves out.
    """
    foreign = {
        name: path
        for name, path in (inputs or {}).items()
        if not _is_made_by(name, path, recipe, data)
    }
    if not foreign:
        key = _run_key(stage, recipe, data)
    elif stage == "student":
        key = student_key(recipe, data, foreign["teacher"])
    else:
        contents = {name: _contents(name, path) for name, path in foreign.items()}
        key = fingerprint([_run_key(stage, recipe, data), contents])
    return fingerprint([key, options]) if options else key


def student_key(recipe: Recipe, data: Prepared, teacher: Path) -> str:
    """Return the key of everything that a student depends on, whatever made its teacher.

    Args:
        recipe: recipe of the student.
        data: series that it learns from.
        teacher: folder of the teacher stage.
    """
    values = _settings(recipe)
    sections = [values[name] for name in ("seed", "student", "saliency")]
    hashes = [*_contents("teacher", teacher), *_student_hashes(recipe, data)]
    return fingerprint([__version__, data.fingerprint, sections, hashes])


def teacher_sections(recipe: Recipe) -> list[Any]:
    """Return the recipe sections and file hashes of a teacher, besides seed and data."""
    values = _settings(recipe)
    sections = [values[name] for name in ("teacher", "saliency", "references")]
    return [*sections, external_hashes(recipe.teacher), *_branch_sections(recipe)]


def plain_student(recipe: Recipe) -> ModelSection:
    """Return the student's network without what its objectives add to it."""
    student = recipe.student
    return ModelSection(family=student.family, width=student.width, depth=student.depth)


def _run_key(stage: Stage, recipe: Recipe, data: Prepared) -> str:
    """Return the key of a stage that follows all stages before it: a chain of what they read."""
    chain: list[Any] = [__version__, data.fingerprint, recipe.seed]
    for name in STAGES[: STAGES.index(stage) + 1]:
        chain += [name, _sections(name, recipe, data)]
    if stage == "result" and data.schema is not None and data.schema.layout in {"wide", "long"}:
        chain.append(data.schema.to_dict())  # the bundle carries it; arrays do not show names
    return fingerprint(chain)


def _sections(stage: Stage, recipe: Recipe, data: Prepared) -> list[Any]:
    """Return the sections of the recipe that a stage reads, and the contents of what it names."""
    values = _settings(recipe)
    if stage == "teacher":
        return [*teacher_sections(recipe), *_probe_section(recipe, data)]
    if stage == "student":
        return [values["student"], *_student_hashes(recipe, data)]
    if stage == "model":
        return []
    if stage == "variants":
        names = ("precisions", "calibration", "runtimes", "batch")
        settings = [values["optimize"][name] for name in names]
        return [*settings, *_search_sections(values), *_format_sections(values)]
    return [values]


def _settings(recipe: Recipe) -> dict[str, Any]:
    """Return the settings of a recipe; of later versions only those that are set.

    So a stage of an earlier version keeps its key.
    """
    values = recipe.to_dict()
    for name, later in _LATER.items():
        values[name] = {
            key: value
            for key, value in values[name].items()
            if key not in later or value not in (None, [], {})
        }
    return values


def _branch_sections(recipe: Recipe) -> list[Any]:
    """Return the student's network, if the teacher branches into it."""
    if recipe.teacher.student_friendly is None:
        return []
    return [plain_student(recipe).model_dump(mode="json")]


def _search_sections(values: Mapping[str, Any]) -> list[Any]:
    """Return the settings of a search; none without a search."""
    settings = values["optimize"]
    if settings["search"] is None:
        return []
    measured = [settings[name] for name in ("search", "recover", "prefer", "runs")]
    trained = [values["student"]] if settings["recover"] else []
    return [*measured, *trained, values["contract"]]


def _format_sections(values: Mapping[str, Any]) -> list[Any]:
    """Return the file formats; nothing where variants stay ONNX files alone."""
    formats = values["optimize"]["formats"]
    return [formats] if "ort" in formats else []


def _probe_section(recipe: Recipe, data: Prepared) -> list[Any]:
    """Return what an external teacher gives for a probe; nothing of one that is trained here."""
    return [] if recipe.teacher.source is None else [probe_outputs(recipe, data)]


def _student_hashes(recipe: Recipe, data: Prepared) -> list[Any]:
    """Return hashes of what a student's recipe names: its own files, and other teachers."""
    return [*_extra_teacher_hashes(recipe, data), *external_hashes(recipe.student)]


def _extra_teacher_hashes(recipe: Recipe, data: Prepared) -> list[Any]:
    """Return hashes and probe outputs of a student's other teachers."""
    hashes: list[Any] = []
    for config in recipe.student.objectives:
        for source in config.other_teachers:
            weights = Path(source) / WEIGHTS
            if weights.is_file():
                hashes.append(sha256(weights))
            elif not Path(source).is_dir():
                section = TeacherSection(source=source, trust=getattr(config, "trust", False))
                extra = recipe.model_copy(update={"teacher": section})
                hashes += [*external_hashes(section), probe_outputs(extra, data)]
    return hashes


def _is_made_by(stage: Stage, path: Path, recipe: Recipe, data: Prepared) -> bool:
    """Whether a folder, or the file of the model, is the one that the recipe makes of the data."""
    if stage == "model" and path.name != ONNX:
        return False
    folder = path.parent if stage == "model" else path
    return is_unchanged(folder, _run_key(stage, recipe, data))


def _contents(stage: Stage, path: Path) -> list[str]:
    """Return the hashes of the files that later stages read."""
    if stage == "teacher":
        path = path / TEACHER_OUTPUTS
    if path.is_dir():
        return list(file_hashes(path).values())
    return [sha256(path)] if path.is_file() else []
