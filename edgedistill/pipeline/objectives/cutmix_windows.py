"""Objectives about windows of opposing series, `tsd` and `cutmix_kd`, and their banks."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from edgedistill.data import Prepared
from edgedistill.distillation.objectives import TSD, CutMixKD, MultiWidthObjective, Objective
from edgedistill.distillation.objectives.cutmix_windows import LogitsFn
from edgedistill.distillation.objectives.multi_width import split_windows
from edgedistill.io.files import fingerprint, sha256
from edgedistill.pipeline.objectives.context import Lesson
from edgedistill.pipeline.stage_folder import is_unchanged, make_stage
from edgedistill.pipeline.stages.teacher import KNOWLEDGE, open_teacher, plan_of, training_data
from edgedistill.recipe.objectives import CutMixKDTerm, OpposingTerm, TSDTerm
from edgedistill.teachers.importance import Chances, start_chances
from edgedistill.teachers.window_cache import Bank, BankPlan, open_bank, windows_within, write_bank

WIDTH_SEED = 3000  # added for every further width of `tsd`, or all would draw the same places


def _tsd(term: TSDTerm, lesson: Lesson) -> Objective:
    lesson.explainable(term.name)
    numbers = split_windows(term.windows, len(term.widths))
    parts = [
        _tsd_part(term, lesson, width, number, lesson.recipe.seed + place * WIDTH_SEED)
        for place, (width, number) in enumerate(zip(term.widths, numbers, strict=True))
    ]
    return parts[0] if len(parts) == 1 else MultiWidthObjective(parts, numbers)


def _tsd_part(term: TSDTerm, lesson: Lesson, width: int, windows: int, seed: int) -> TSD:
    """Return the objective for the windows of one width."""
    train, chances = lesson.data.train, None
    if term.draw == "importance":
        chances = start_chances(lesson.known.kl, plan_of(lesson.recipe, train.x.shape[2]), width)
    return TSD(
        _answering(term, lesson, width, windows, chances),
        train.x,
        train.y,
        windows=windows,
        width=width,
        temperature=term.temperature,
        form=term.form,
        loss=term.loss,
        chances=chances,
        seed=seed,
    )


def _cutmix_kd(term: CutMixKDTerm, lesson: Lesson) -> Objective:
    lesson.explainable(term.name)
    return CutMixKD(
        _answering(term, lesson, term.width, term.windows),
        lesson.data.train.x,
        lesson.data.train.y,
        windows=term.windows,
        width=term.width,
        temperature=term.temperature,
        seed=lesson.recipe.seed,
    )


def _answering(
    term: OpposingTerm, lesson: Lesson, width: int, windows: int, chances: Chances | None = None
) -> Bank | LogitsFn:
    """Return who answers about windows: a bank, or the teacher."""
    if term.bank:
        return _bank(term, lesson, width, windows, chances)
    return open_teacher(lesson.recipe, lesson.data, lesson.teacher).logits


def _bank(
    term: OpposingTerm, lesson: Lesson, width: int, windows: int, chances: Chances | None
) -> Bank:
    """Return the teacher's answers to many windows; it is asked only if none are kept.

    What the student is, its seed and the loss are no part of the key, and the folder is no
    part of the student's, so that another student finds the same answers.
    """
    plan = _bank_plan(term, lesson.data, width, windows, chances)
    key = fingerprint([sha256(lesson.teacher / KNOWLEDGE), plan.key()])
    drawn = "" if chances is None else "-importance"
    folder = lesson.home / f"bank-{plan.width}-{plan.number}{drawn}"
    if not is_unchanged(folder, key):
        told = partial(lesson.tell, "ask the teacher about windows")
        asked = open_teacher(lesson.recipe, lesson.data, lesson.teacher)
        make_stage(folder, key, lambda whole, _: write_bank(whole, asked, plan, told))
    return open_bank(folder)


def _bank_plan(
    term: OpposingTerm, data: Prepared, width: int, windows: int, chances: Chances | None
) -> BankPlan:
    known = training_data(data)
    number = windows_within(
        term.bank_mib * windows / term.windows,
        asked=term.bank * windows,
        least=windows,
        series=len(known.series),
        classes=len(data.class_names),
    )
    return BankPlan(
        series=known.series.numpy(),
        labels=known.labels.numpy(),
        trained=len(known.train),
        width=width,
        number=number,
        chances=chances,
    )


OPPOSING_BUILDERS: dict[type, Callable[[Any, Lesson], Objective]] = {
    CutMixKDTerm: _cutmix_kd,
    TSDTerm: _tsd,
}
