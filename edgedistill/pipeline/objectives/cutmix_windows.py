"""Objectives about windows of opposing series, `tsd` and `cutmix_kd`, and their banks."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from edgedistill.data import Prepared
from edgedistill.distillation.objectives import TSD, CutMixKD, MultiWidthObjective, Objective
from edgedistill.distillation.objectives.cutmix_windows import LogitsFn
from edgedistill.distillation.objectives.multi_width import split_windows
from edgedistill.io.arrays import Doubles
from edgedistill.io.files import fingerprint, sha256
from edgedistill.pipeline.objectives.context import ObjectiveContext
from edgedistill.pipeline.run_folder import TEACHER_OUTPUTS
from edgedistill.pipeline.stage_folder import is_unchanged, make_stage
from edgedistill.pipeline.stages.teacher import open_teacher, perturbation_plan, training_data
from edgedistill.recipe.objectives import CutMixKDTerm, CutMixWindowConfig, TSDTerm
from edgedistill.teachers.importance import start_probabilities
from edgedistill.teachers.window_cache import (
    WindowCache,
    WindowCacheSpec,
    affordable_windows,
    open_window_cache,
    write_window_cache,
)

WIDTH_SEED = 3000  # added for every further width of `tsd`, or all would draw the same places


def _tsd(term: TSDTerm, context: ObjectiveContext) -> Objective:
    context.require_maps(term.name)
    numbers = split_windows(term.windows, len(term.widths))
    parts = [
        _tsd_part(term, context, width, number, context.recipe.seed + place * WIDTH_SEED)
        for place, (width, number) in enumerate(zip(term.widths, numbers, strict=True))
    ]
    return parts[0] if len(parts) == 1 else MultiWidthObjective(parts, numbers)


def _tsd_part(term: TSDTerm, context: ObjectiveContext, width: int, windows: int, seed: int) -> TSD:
    """Return the objective for the windows of one width."""
    train, start_weights = context.data.train, None
    if term.draw == "importance":
        start_weights = start_probabilities(
            context.explanation.kl, perturbation_plan(context.recipe, context.data.length), width
        )
    return TSD(
        _window_teacher(term, context, width, windows, start_weights),
        train.x,
        train.y,
        windows=windows,
        width=width,
        temperature=term.temperature,
        form=term.form,
        loss=term.loss,
        start_weights=start_weights,
        seed=seed,
    )


def _cutmix_kd(term: CutMixKDTerm, context: ObjectiveContext) -> Objective:
    context.require_maps(term.name)
    return CutMixKD(
        _window_teacher(term, context, term.width, term.windows),
        context.data.train.x,
        context.data.train.y,
        windows=term.windows,
        width=term.width,
        temperature=term.temperature,
        seed=context.recipe.seed,
    )


def _window_teacher(
    term: CutMixWindowConfig,
    context: ObjectiveContext,
    width: int,
    windows: int,
    start_weights: Doubles | None = None,
) -> WindowCache | LogitsFn:
    """Return who answers about windows: a bank, or the teacher."""
    if term.bank:
        return _window_cache(term, context, width, windows, start_weights)
    return open_teacher(context.recipe, context.data, context.teacher).logits


def _window_cache(
    term: CutMixWindowConfig,
    context: ObjectiveContext,
    width: int,
    windows: int,
    start_weights: Doubles | None,
) -> WindowCache:
    """Return the teacher's answers to many windows; it is asked only if none are kept.

    What the student is, its seed and the loss are no part of the key, and the folder is no
    part of the student's, so that another student finds the same answers.
    """
    plan = _cache_spec(term, context.data, width, windows, start_weights)
    key = fingerprint([sha256(context.teacher / TEACHER_OUTPUTS), plan.key()])
    drawn = "" if start_weights is None else "-importance"
    folder = context.cache_folder / f"bank-{plan.width}-{plan.number}{drawn}"
    if not is_unchanged(folder, key):
        on_progress = partial(context.on_progress, "ask the teacher about windows")
        teacher = open_teacher(context.recipe, context.data, context.teacher)
        make_stage(
            folder, key, lambda whole, _: write_window_cache(whole, teacher, plan, on_progress)
        )
    return open_window_cache(folder)


def _cache_spec(
    term: CutMixWindowConfig,
    data: Prepared,
    width: int,
    windows: int,
    start_weights: Doubles | None,
) -> WindowCacheSpec:
    known = training_data(data)
    number = affordable_windows(
        term.bank_mib * windows / term.windows,
        requested=term.bank * windows,
        minimum=windows,
        series=len(known.series),
        classes=data.classes,
    )
    return WindowCacheSpec(
        series=known.series.numpy(),
        labels=known.labels.numpy(),
        donor_count=len(known.train),
        width=width,
        number=number,
        start_weights=start_weights,
    )


WINDOW_BUILDERS: dict[type, Callable[[Any, ObjectiveContext], Objective]] = {
    CutMixKDTerm: _cutmix_kd,
    TSDTerm: _tsd,
}
