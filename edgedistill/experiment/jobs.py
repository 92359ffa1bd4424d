"""The jobs of an experiment: prepare a data set once, and distill and score one student.

Both are functions of small values that pickle, so that they run in any process. Complete
folders are read, not made again.

Scores are of the test split, but for three measures of the validation split: settings are
compared by them. The mean measures are those of the report; the agreement of maps has its median
and 10th percentile too, because a mean hides a student that is right for other reasons on a tenth
of the series.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import numba
import numpy as np
import torch

from edgedistill import __version__
from edgedistill.data import Prepared
from edgedistill.distillation.objectives import build_objective
from edgedistill.errors import EdgeDistillError
from edgedistill.evaluation import metrics
from edgedistill.evaluation.evaluate import (
    evaluate,
    evaluate_explanation,
    explain_teacher_class,
)
from edgedistill.io.files import fingerprint, read_json, sha256, write_json
from edgedistill.pipeline.keys import stage_key, teacher_sections
from edgedistill.pipeline.objective_context import objective_context
from edgedistill.pipeline.run_folder import TEACHER_OUTPUTS, TRIALS, RunFolder
from edgedistill.pipeline.scoring import with_report_estimates
from edgedistill.pipeline.stage_folder import is_unchanged, make_stage
from edgedistill.pipeline.stages.data import prepare_data, report_data
from edgedistill.pipeline.stages.evaluate import floor_agreement
from edgedistill.pipeline.stages.student import make_student
from edgedistill.pipeline.stages.teacher import (
    make_teacher,
    open_teacher_outputs,
    perturbation_plan,
)
from edgedistill.recipe.recipe import Recipe
from edgedistill.report import Data
from edgedistill.saliency.occlusion import Explanation
from edgedistill.saliency.perturbation import unseen_plan
from edgedistill.teachers.outputs import TeacherOutputs
from edgedistill.teachers.torch import TorchClassifier
from edgedistill.training import networks

SCORES = "scores.json"
_REFERENCES, _IN_USE = "references", "in-use"
_T = TypeVar("_T")
_R = TypeVar("_R")
Scores = dict[str, float | int | str | None]
_MEASURES = ("accuracy", "auc_prc", "roc_auc", "agreement", "kl", "ece")


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


def describe_dataset(job: DatasetJob) -> Data:
    """Read the series of a set, as all its students will; return their facts."""
    return report_data(prepare_data(job.shared_recipe))


def prepare_dataset(job: DatasetJob) -> PreparedDataset:
    """Train or take the teacher of a set, unless that is done; read the students that are done."""
    shared, folder = job.shared_recipe, job.folder
    data = prepare_data(shared)
    _keep_work_folder(folder)
    teacher, key = RunFolder(folder).teacher, stage_key("teacher", shared, data)
    if not any(is_unchanged(teacher, each) for each in (key, *_old_keys(shared, data))):
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


def student_scores(
    recipe: Recipe, data: Prepared, folder: Path, teacher_outputs: TeacherOutputs
) -> Scores:
    """Measure the student in a folder of the student stage.

    Args:
        recipe: recipe of the student, with the plan of the maps.
        data: data set with the held-out series.
        folder: folder of the student.
        teacher_outputs: logits and maps of the teacher.
    """
    module, facts = networks.open_network(folder)
    student = TorchClassifier(module, classes=data.classes, name="student")
    plan = perturbation_plan(recipe, data.length)
    teacher = teacher_outputs.splits["test"]
    evaluation = with_report_estimates(
        evaluate(student, data.test.x, data.test.y, teacher, plan), data.test.y
    )
    scores: Scores = {name: evaluation.estimates[name].value for name in _MEASURES}
    if teacher_outputs.maps:
        unseen = explain_teacher_class(
            student, data.test.x, unseen_plan(plan), teacher_outputs.unseen
        )
        scores |= map_scores("saliency", teacher, evaluation.explanation)
        scores |= map_scores("unseen", teacher_outputs.unseen, unseen)
    trials = read_json(folder / TRIALS)
    chosen = trials["trials"][trials["chosen"]]
    return {
        **scores,
        "validation_accuracy": chosen["accuracy"],
        "validation_kl": chosen["kl"],
        "validation_pearson": chosen["saliency_pearson"],
        "parameters": facts["cost"]["parameters"],
        "weights": json.dumps(chosen["weights"], sort_keys=True),
    }


def map_scores(plan: str, teacher: Explanation, student: Explanation) -> Scores:
    """Agreement of the signed maps of teacher and student, under the plan of that name."""
    pearson = metrics.pearson(teacher.signed, student.signed)
    spearman = metrics.spearman(teacher.signed, student.signed)
    top = metrics.top_sign_agreement(teacher.signed, student.signed)
    return {
        f"{plan}_pearson": float(pearson.mean()),
        f"{plan}_pearson_median": float(np.median(pearson)),
        f"{plan}_pearson_p10": float(np.percentile(pearson, 10)),
        f"{plan}_spearman": float(spearman.mean()),
        f"{plan}_top_sign": float(top.mean()),
    }


def reference_scores(
    recipe: Recipe, data: Prepared, teacher_outputs: TeacherOutputs, ceiling: list[float] | None
) -> Scores:
    """Reference scores of a set: those of the teacher, a second teacher, an untrained student.

    Args:
        recipe: recipe that the students share; its student, untrained, is the floor.
        data: data set with the held-out series.
        teacher_outputs: logits and maps of the teacher.
        ceiling: Pearson of a second teacher's maps, one for each test series.
    """
    teacher = teacher_outputs.splits["test"]
    own = with_report_estimates(
        evaluate_explanation(teacher, data.test.y, teacher), data.test.y
    ).estimates
    floor = None
    if recipe.references.floor and teacher_outputs.maps:
        plan = perturbation_plan(recipe, data.length)
        floor = float(floor_agreement(recipe, data, teacher, plan).mean())
    return {
        "teacher_accuracy": own["accuracy"].value,
        "teacher_auc_prc": own["auc_prc"].value,
        "ceiling_pearson": None if ceiling is None else float(np.mean(ceiling)),
        "floor_pearson": floor,
    }


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


def _old_keys(recipe: Recipe, data: Prepared) -> list[str]:
    """Keys of teachers in experiments of version 0.1.0: those that were trained remain valid.

    An external teacher had a key that did not change with what it returns.
    """
    if recipe.teacher.source is not None:
        return []
    teacher, saliency, references, hashes, *branches = teacher_sections(recipe)
    sections = [recipe.seed, teacher, saliency, references]
    return [fingerprint([__version__, data.fingerprint, sections, hashes, *branches])]


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
                    student = networks.build_untrained(
                        recipe.student.network, data, seed=recipe.seed
                    )
                    context = objective_context(
                        recipe, data, folder.teacher, teacher_outputs, student, folder.work
                    )
                    build_objective(config, context)
