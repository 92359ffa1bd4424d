"""The two kinds of jobs in an experiment: prepare a data set once, and distill one student.

Both are functions of small values that pickle, so that they run in any process. Complete
folders are read, not made again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import numba
import torch

from edgedistill import __version__
from edgedistill.data import Prepared
from edgedistill.distillation.objectives import build_objective
from edgedistill.errors import EdgeDistillError
from edgedistill.experiment.scores import Scores, reference_scores, student_scores
from edgedistill.io.files import fingerprint, read_json, sha256, write_json
from edgedistill.pipeline.keys import stage_key, teacher_sections
from edgedistill.pipeline.objective_context import objective_context
from edgedistill.pipeline.run_folder import TEACHER_OUTPUTS, RunFolder
from edgedistill.pipeline.stage_folder import is_unchanged, make_stage
from edgedistill.pipeline.stages.data import prepare_data
from edgedistill.pipeline.stages.student import make_student
from edgedistill.pipeline.stages.teacher import make_teacher, open_teacher_outputs
from edgedistill.recipe.recipe import Recipe
from edgedistill.training import networks

SCORES = "scores.json"
_REFERENCES, _IN_USE = "references", "in-use"
_T = TypeVar("_T")
_R = TypeVar("_R")


@dataclass(frozen=True, slots=True)
class StudentJob:
    """One student: a method on a set, from a seed."""

    name: str  # name of the student's folder
    shared_recipe: Recipe  # recipe of splits and teacher, with their own seed
    recipe: Recipe  # recipe of the method, with the student's seed
    folder: Path  # folder of the set


@dataclass(frozen=True, slots=True)
class DatasetJob:
    """A data set with its students and what they share."""

    shared_recipe: Recipe
    methods: tuple[Recipe, ...]
    runs: tuple[StudentJob, ...]
    folder: Path


@dataclass(frozen=True, slots=True)
class PreparedDataset:
    """A set whose teacher is complete."""

    references: Scores  # of the teacher, of a second one, of an untrained student
    done: Mapping[str, Scores] = field(default_factory=dict)  # of the students that are complete


@dataclass(frozen=True, slots=True)
class Failure:
    """Error message of a job that failed."""

    message: str


def attempt(work: Callable[[_T], _R], argument: _T) -> _R | Failure:
    """Run one job on one thread; an error becomes a `Failure`."""
    torch.set_num_threads(1)
    numba.set_num_threads(1)
    try:
        return work(argument)
    except EdgeDistillError as error:
        return Failure(str(error))
    except Exception as error:  # noqa: BLE001 - one run of a thousand must not end the others
        return Failure(f"{type(error).__name__}: {error}")


def prepare_dataset(job: DatasetJob) -> PreparedDataset:
    """Train or take the teacher of a set, unless that is done; read the students that are done."""
    shared, folder = job.shared_recipe, job.folder
    data = prepare_data(shared)
    _keep_work_folder(folder)
    teacher, key = RunFolder(folder).teacher, stage_key("teacher", shared, data)
    if not is_unchanged(teacher, key) and not is_unchanged(teacher, _old_key(shared, data)):
        make_stage(teacher, key, lambda f, work: make_teacher(shared, data, f, work))
    references = _references(job, data)
    done = {
        run.name: read_json(folder / run.name / SCORES)
        for run in job.runs
        if is_unchanged(folder / run.name, _student_key(run, data))
    }
    if len(done) < len(job.runs):
        _fill_caches(job, data)
    return PreparedDataset(references, done)


def distill(run: StudentJob) -> Scores:
    """Distill and measure one student, unless that is done, and return its scores."""
    data = prepare_data(run.shared_recipe)
    folder, key = run.folder / run.name, _student_key(run, data)
    if not is_unchanged(folder, key):
        make_stage(folder, key, lambda out, work: _distill(run, data, out, work))
    scores: Scores = read_json(folder / SCORES)
    return scores


def release_work_folder(folder: Path) -> None:
    """Remove the working folder of a set, once none of its runs is in progress."""
    work = RunFolder(folder).work
    with suppress(OSError):  # absent, or not empty: a window cache, or checkpoints
        (work / _IN_USE).unlink()
        work.rmdir()


def _keep_work_folder(folder: Path) -> None:
    """Keep the working folder of a set in place.

    A complete stage removes it if it is empty, maybe just when another stage starts there.
    """
    work = RunFolder(folder).work
    work.mkdir(parents=True, exist_ok=True)
    (work / _IN_USE).touch()


def _student_key(run: StudentJob, data: Prepared) -> str:
    """Key of a student, which depends on the teacher in the set's folder."""
    return stage_key("student", run.recipe, data, {"teacher": RunFolder(run.folder).teacher})


def _old_key(recipe: Recipe, data: Prepared) -> str:
    """Key of teachers in experiments of version 0.1.0, which remain valid."""
    teacher, saliency, references, hashes, *branches = teacher_sections(recipe)
    sections = [recipe.seed, teacher, saliency, references]
    return fingerprint([__version__, data.fingerprint, sections, hashes, *branches])


def _references(job: DatasetJob, data: Prepared) -> Scores:
    folder = job.folder / _REFERENCES
    shared = job.shared_recipe.student
    student = [shared.family, shared.width, shared.depth, shared.explained]
    values = job.shared_recipe.to_dict()
    sections = [values[key] for key in ("seed", "saliency", "references")]
    teacher_hash = sha256(RunFolder(job.folder).teacher / TEACHER_OUTPUTS)
    key = fingerprint([__version__, data.fingerprint, teacher_hash, student, sections])
    if not is_unchanged(folder, key):
        teacher_outputs, facts = open_teacher_outputs(RunFolder(job.folder).teacher)
        references = reference_scores(
            job.shared_recipe, data, teacher_outputs, facts.get("ceiling")
        )
        make_stage(folder, key, lambda out, _: write_json(out / SCORES, references))
    scores: Scores = read_json(folder / SCORES)
    return scores


def _distill(run: StudentJob, data: Prepared, out: Path, work: Path) -> None:
    start = time.perf_counter()
    make_student(run.recipe, data, RunFolder(run.folder).teacher, out, work)
    seconds = time.perf_counter() - start
    teacher_outputs, _ = open_teacher_outputs(RunFolder(run.folder).teacher)
    scores = student_scores(run.recipe, data, out, teacher_outputs)
    write_json(out / SCORES, {**scores, "seconds": seconds})


def _fill_caches(job: DatasetJob, data: Prepared) -> None:
    """Compute the teacher outputs that students share, before all of them would at once."""
    folder = RunFolder(job.folder)
    teacher_outputs, _ = open_teacher_outputs(folder.teacher)
    for recipe in job.methods:
        for config in recipe.student.objectives:
            if config.uses_cache:
                with suppress(EdgeDistillError):  # the student itself raises it again
                    student = networks.build_untrained(recipe.student.spec, data, seed=recipe.seed)
                    context = objective_context(
                        recipe, data, folder.teacher, teacher_outputs, student, folder.work
                    )
                    build_objective(config, context)
