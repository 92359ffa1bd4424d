"""The student stage: distill with every weight that the recipe leaves open, and choose."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

from edgedistill.data import Prepared
from edgedistill.distillation.objectives import WeightedObjective, build_objective
from edgedistill.evaluation import metrics
from edgedistill.evaluation.evaluate import evaluate
from edgedistill.io.files import fingerprint, write_json
from edgedistill.io.progress import ProgressCallback, ignore_progress
from edgedistill.pipeline import networks
from edgedistill.pipeline.keys import student_key
from edgedistill.pipeline.objective_context import objective_context
from edgedistill.pipeline.run_folder import TRIALS
from edgedistill.pipeline.stages import weight_search as search
from edgedistill.pipeline.stages.pruning import finalize_student, initial_student
from edgedistill.pipeline.stages.teacher import (
    open_teacher_outputs,
    perturbation_plan,
    training_data,
)
from edgedistill.recipe.recipe import Recipe
from edgedistill.teachers import TorchClassifier
from edgedistill.teachers.outputs import TeacherOutputs
from edgedistill.training.config import RunOutputs, epoch_callback
from edgedistill.training.fit import fit
from edgedistill.training.weight_search import HalvingStage, Trial, run_successive_halving


def make_student(
    recipe: Recipe,
    data: Prepared,
    teacher: Path,
    out: Path,
    work: Path,
    on_progress: ProgressCallback = ignore_progress,
) -> None:
    """Write the distilled student into an existing folder.

    Args:
        recipe: student, objectives, training.
        data: series to learn from and to choose weights on.
        teacher: folder of the teacher stage.
        out: folder for the chosen student, and for what was tried.
        work: folder for checkpoints and TensorBoard events; survives a kill. Beside it lie
            the banks of the teacher's answers, which students to come draw from too.
        on_progress: progress.
    """
    teacher_outputs, _ = open_teacher_outputs(teacher)
    weights = search.candidates(recipe)
    rungs = search.halving_stages(recipe, len(weights))
    key = student_key(recipe, data, teacher)

    def train(candidate: int, number: int) -> Trial:
        folder = work / f"student-{candidate}"
        own = fingerprint([key, weights[candidate]])
        judged = search.load_candidate(folder, own)
        if number == len(judged):
            epoch, what = rungs[number].epoch, _progress(candidate, number, rungs)
            judged.append(
                _distill(
                    recipe,
                    data,
                    teacher,
                    teacher_outputs,
                    weights[candidate],
                    folder,
                    epoch,
                    what,
                    on_progress,
                )
            )
            search.save_candidate(folder, own, judged)
        return judged[number]

    judged, chosen = run_successive_halving(rungs, train, len(data.validation.y))
    for name in (networks.WEIGHTS, networks.FACTS):
        shutil.copyfile(work / f"student-{chosen}" / name, out / name)
    write_json(out / TRIALS, search.search_summary(rungs, judged, chosen))


def _progress(candidate: int, number: int, stages: list[HalvingStage]) -> str:
    """Return what a person reads while a candidate trains."""
    count = stages[0].candidates
    what = "distill" if count == 1 else f"distill {candidate + 1} of {count}"
    return what if len(stages) == 1 else f"{what}, rung {number + 1} of {len(stages)}"


def _distill(
    recipe: Recipe,
    data: Prepared,
    teacher: Path,
    teacher_outputs: TeacherOutputs,
    weights: tuple[float, ...],
    folder: Path,
    until: int,
    what: str,
    on_progress: ProgressCallback,
) -> Trial:
    """Train one student up to an epoch, into `folder`, and return how it does on validation."""
    sections = recipe.student.objectives
    config = recipe.student.training
    model, pruner = initial_student(recipe, data, teacher)
    home = folder.parent.parent  # beside the work of students, for all of them
    context = objective_context(recipe, data, teacher, teacher_outputs, model, home, on_progress)
    terms = [
        WeightedObjective(
            objective=build_objective(section, context),
            weight=weight,
            start=section.start,
            ramp=section.ramp,
        )
        for section, weight in zip(sections, weights, strict=True)
    ]
    history = fit(
        model,
        terms,
        training_data(data),
        config,
        seed=recipe.seed,
        outputs=RunOutputs(
            checkpoint=folder / "student.ckpt",
            tensorboard=folder.parent / "tensorboard" / folder.name,
        ),
        on_epoch=epoch_callback(on_progress, what, until),
        pruner=pruner,
        until=until,
    )
    model = finalize_student(model, recipe, data)
    networks.save(model, recipe.student, data, history, folder)
    names = [section.name for section in sections]
    student = TorchClassifier(model, classes=data.classes, name="student")
    found = _trial(dict(zip(names, weights, strict=True)), student, recipe, data, teacher_outputs)
    return replace(found, epochs=len(history))


def _trial(
    weights: dict[str, float],
    student: TorchClassifier,
    recipe: Recipe,
    data: Prepared,
    teacher_outputs: TeacherOutputs,
) -> Trial:
    x, y, teacher = data.validation.x, data.validation.y, teacher_outputs.splits["validation"]
    evaluation = evaluate(student, x, y, teacher, perturbation_plan(recipe, data.length))
    estimates = evaluation.estimates
    pearson = estimates.get("saliency_pearson")  # absent where the teacher has no maps
    return Trial(
        weights=weights,
        accuracy=float(metrics.correct(evaluation.explanation.logits, y).mean()),
        kl=estimates["kl"].value,
        saliency_pearson=None if pearson is None else pearson.value,
    )
