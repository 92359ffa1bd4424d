"""The student stage: distill, once for every weight the recipe leaves open, and choose."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path

import numpy as np
import torch

from edgedistill import metrics
from edgedistill.config import (
    CrossEntropyTerm,
    KDTerm,
    ObjectiveTerm,
    Recipe,
    TSDMapsTerm,
    TSDTerm,
)
from edgedistill.data import Prepared
from edgedistill.distill.bank import Bank, BankPlan, open_bank, windows_within, write_bank
from edgedistill.distill.fit import Records, fit
from edgedistill.distill.knowledge import Knowledge, explain_like
from edgedistill.distill.objectives import KD, TSD, CrossEntropy, Objective, Term, TSDMaps
from edgedistill.distill.selection import Trial, choose
from edgedistill.errors import ConfigError
from edgedistill.files import fingerprint, sha256, write_json
from edgedistill.occlusion import Explanation
from edgedistill.stages import networks
from edgedistill.stages.folder import is_unchanged, make_stage
from edgedistill.stages.progress import Progress, epochs, silent
from edgedistill.stages.teacher import (
    KNOWLEDGE,
    open_knowledge,
    open_teacher,
    plan_of,
    training_data,
)
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
    objectives = [
        _objective(section, recipe, data, teacher, knowledge, work.parent, tell)
        for section in recipe.student.objectives
    ]
    choices = list(_choices(recipe))
    trials = []
    for index, weights in enumerate(choices):
        folder = work / f"student-{index}"
        folder.mkdir(parents=True, exist_ok=True)
        what = "distill" if len(choices) == 1 else f"distill {index + 1} of {len(choices)}"
        trials.append(_distill(recipe, data, objectives, knowledge, weights, folder, what, tell))
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
    objectives: list[Objective],
    knowledge: Knowledge,
    weights: tuple[float, ...],
    folder: Path,
    what: str,
    tell: Progress,
) -> Trial:
    """Train one student into `folder` and return how it does on validation series."""
    sections = recipe.student.objectives
    terms = [
        Term(objective=objective, weight=weight, start=section.start)
        for objective, section, weight in zip(objectives, sections, weights, strict=True)
    ]
    config = recipe.student.training
    model = networks.fresh(recipe.student, data, seed=recipe.seed)
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


def _objective(
    section: ObjectiveTerm,
    recipe: Recipe,
    data: Prepared,
    teacher: Path,
    knowledge: Knowledge,
    home: Path,
    tell: Progress,
) -> Objective:
    if isinstance(section, CrossEntropyTerm):
        return CrossEntropy()
    if isinstance(section, KDTerm):
        logits = torch.from_numpy(_known(knowledge).logits)
        return KD(logits, temperature=section.temperature)
    if not knowledge.maps:
        raise ConfigError(
            f"The objective {section.name} asks the teacher about perturbed series, and a file of "
            "logits cannot answer. Use kd, or bring the model that gave the logits."
        )
    if isinstance(section, TSDMapsTerm):
        return TSDMaps(_known(knowledge), plan_of(recipe, data.train.x.shape[2]))
    bank = _bank(section, recipe, data, teacher, home, tell) if section.bank else None
    return TSD(
        bank or open_teacher(recipe, data, teacher).logits,
        data.train.x,
        data.train.y,
        windows=section.windows,
        width=section.width,
        temperature=section.temperature,
        form=section.form,
        seed=recipe.seed,
    )


def _bank(
    section: TSDTerm, recipe: Recipe, data: Prepared, teacher: Path, home: Path, tell: Progress
) -> Bank:
    """Return the teacher's answers to many windows; it is asked only if none are kept.

    What the student is, its seed and the loss are no part of the key, and the folder is no
    part of the student's, so that another student finds the same answers.
    """
    plan = _bank_plan(section, data)
    key = fingerprint([sha256(teacher / KNOWLEDGE), plan.key()])
    folder = home / f"bank-{plan.width}-{plan.number}"
    if not is_unchanged(folder, key):
        told = partial(tell, "ask the teacher about windows")
        asked = open_teacher(recipe, data, teacher)
        make_stage(folder, key, lambda whole, _: write_bank(whole, asked, plan, told))
    return open_bank(folder)


def _bank_plan(section: TSDTerm, data: Prepared) -> BankPlan:
    known = training_data(data)
    number = windows_within(
        section.bank_mib,
        asked=section.bank * section.windows,
        least=section.windows,
        series=len(known.series),
        classes=len(data.class_names),
    )
    return BankPlan(
        series=known.series.numpy(),
        labels=known.labels.numpy(),
        trained=len(known.train),
        width=section.width,
        number=number,
    )


def _known(knowledge: Knowledge) -> Explanation:
    """Return the teacher's answers in the order of the rows that training knows."""
    train, validation = knowledge.splits["train"], knowledge.splits["validation"]
    return Explanation(
        np.concatenate([train.logits, validation.logits]),
        np.concatenate([train.kl, validation.kl]),
        np.concatenate([train.signed, validation.signed]),
    )
