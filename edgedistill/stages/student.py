"""The student stage: distill, once for every weight the recipe leaves open, and choose."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from edgedistill import metrics
from edgedistill.config import Recipe
from edgedistill.data import Prepared
from edgedistill.distill.fit import Records, fit
from edgedistill.distill.knowledge import Knowledge, explain_like
from edgedistill.distill.objectives import Term
from edgedistill.distill.selection import Trial, choose
from edgedistill.files import write_json
from edgedistill.stages import networks
from edgedistill.stages.lesson import Lesson
from edgedistill.stages.lessons import objective
from edgedistill.stages.progress import Progress, epochs, silent
from edgedistill.stages.teacher import open_knowledge, plan_of, training_data
from edgedistill.teachers import TorchTeacher

TRIALS = "trials.json"


def make_student(
    recipe: Recipe, data: Prepared, teacher: Path, out: Path, work: Path, tell: Progress = silent
) -> None:
    """Write the distilled student into an existing folder.

    Args:
        recipe: student, objectives, training.
        data: series to learn from and to choose weights on.
        teacher: folder of the teacher stage.
        out: folder for the chosen student, and for what was tried.
        work: folder for checkpoints and TensorBoard events; survives a kill. Beside it lie
            the banks of the teacher's answers, which students to come draw from too.
        tell: progress.
    """
    knowledge, _ = open_knowledge(teacher)
    choices = list(_choices(recipe))
    trials = []
    for index, weights in enumerate(choices):
        folder = work / f"student-{index}"
        folder.mkdir(parents=True, exist_ok=True)
        what = "distill" if len(choices) == 1 else f"distill {index + 1} of {len(choices)}"
        trials.append(_distill(recipe, data, teacher, knowledge, weights, folder, what, tell))
    chosen = choose(trials, len(data.validation.y))
    for name in (networks.WEIGHTS, networks.FACTS):
        shutil.copyfile(work / f"student-{chosen}" / name, out / name)
    write_json(out / TRIALS, {"trials": [asdict(trial) for trial in trials], "chosen": chosen})


def _choices(recipe: Recipe) -> Iterator[tuple[float, ...]]:
    """Yield every combination of the weights that the recipe leaves open."""
    options = [
        term.weight if isinstance(term.weight, tuple) else (term.weight,)
        for term in recipe.student.objectives
    ]
    yield from itertools.product(*options)


def _distill(
    recipe: Recipe,
    data: Prepared,
    teacher: Path,
    knowledge: Knowledge,
    weights: tuple[float, ...],
    folder: Path,
    what: str,
    tell: Progress,
) -> Trial:
    """Train one student into `folder` and return how it does on validation series."""
    sections = recipe.student.objectives
    config = recipe.student.training
    model = networks.fresh(recipe.student, data, seed=recipe.seed)
    home = folder.parent.parent  # beside the work of students, for all of them
    lesson = Lesson(recipe, data, teacher, knowledge, model, home, tell)
    terms = [
        Term(objective=objective(section, lesson), weight=weight, start=section.start)
        for section, weight in zip(sections, weights, strict=True)
    ]
    history = fit(
        model,
        terms,
        training_data(data),
        config,
        seed=recipe.seed,
        records=Records(
            checkpoint=folder / "student.ckpt",
            tensorboard=folder.parent / "tensorboard" / folder.name,
        ),
        on_epoch=epochs(tell, what, config.epochs),
    )
    networks.save(model, recipe.student, data, history, folder)
    names = [section.name for section in sections]
    student = TorchTeacher(model, classes=len(data.class_names), name="student")
    return _trial(dict(zip(names, weights, strict=True)), student, recipe, data, knowledge)


def _trial(
    weights: dict[str, float],
    student: TorchTeacher,
    recipe: Recipe,
    data: Prepared,
    knowledge: Knowledge,
) -> Trial:
    teacher = knowledge.splits["validation"]
    plan = plan_of(recipe, data.train.x.shape[2])
    said = explain_like(student, data.validation.x, plan, teacher)
    match = float(metrics.pearson(teacher.signed, said.signed).mean())
    return Trial(
        weights=weights,
        accuracy=float(metrics.correct(said.logits, data.validation.y).mean()),
        kl=float(metrics.kl_divergence(teacher.logits, said.logits).mean()),
        saliency_pearson=match if knowledge.maps else None,
    )
