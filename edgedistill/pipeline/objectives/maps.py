"""The objective `tsd_maps`: its plans, and teachers who are asked for maps once under each."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

from edgedistill.distillation.objectives import Objective, TSDMaps
from edgedistill.distillation.objectives.multi_width import MultiWidthObjective
from edgedistill.errors import ConfigError
from edgedistill.io.arrays import Ints
from edgedistill.io.files import fingerprint, sha256
from edgedistill.pipeline.extra_teachers import open_source
from edgedistill.pipeline.objectives.context import ObjectiveContext
from edgedistill.pipeline.run_folder import TEACHER_OUTPUTS
from edgedistill.pipeline.stage_folder import is_unchanged, make_stage
from edgedistill.pipeline.stages.teacher import open_teacher, perturbation_plan, training_data
from edgedistill.recipe.objectives import TSDMapsTerm
from edgedistill.saliency.occlusion import Explanation
from edgedistill.saliency.perturbation import PerturbationPlan
from edgedistill.teachers import Classifier
from edgedistill.teachers.map_cache import mean_maps, open_maps, write_maps


def _tsd_maps(term: TSDMapsTerm, context: ObjectiveContext) -> Objective:
    context.require_maps(term.name)
    shared = perturbation_plan(context.recipe, context.data.length)
    others = {source: _extra_teacher(source, term, context) for source in term.sources}
    parts = []
    for plan in _plans(term, shared):
        explanation = context.explanation if plan == shared else _own_maps(plan, context)
        if others:
            maps = [
                _extra_maps(name, teacher, plan, context).signed for name, teacher in others.items()
            ]
            explanation = replace(explanation, signed=mean_maps([explanation.signed, *maps]))
        parts.append(TSDMaps(explanation, plan, over=term.map))
    return parts[0] if len(parts) == 1 else MultiWidthObjective(parts, [1.0] * len(parts))


def _plans(term: TSDMapsTerm, base: PerturbationPlan) -> list[PerturbationPlan]:
    """Return the plans whose maps are compared; baseline and temperature are the shared one's."""
    plans = [replace(base, width=w, stride=max(1, w // 2)) for w in term.widths] or [base]
    return [replace(plan, stride=1) for plan in plans] if term.map == "timesteps" else plans


def _extra_teacher(source: str, term: TSDMapsTerm, context: ObjectiveContext) -> Classifier:
    """Return another teacher.

    Raises:
        ConfigError: it is a file of logits.
    """
    other = open_source(source, context.recipe, context.data, trust=term.trust)
    if not other.can_explain:
        raise ConfigError(
            f"The objective {term.name} asks {source} about perturbed series, and a file of logits "
            "cannot answer. Leave it out of sources, or bring the model that gave the logits."
        )
    return other


def _own_maps(plan: PerturbationPlan, context: ObjectiveContext) -> Explanation:
    """Return the maps of the teacher, which is opened only if none are kept."""
    return _cached_maps(
        f"maps-{plan.width}-{plan.stride}",
        sha256(context.teacher / TEACHER_OUTPUTS),
        lambda: open_teacher(context.recipe, context.data, context.teacher),
        plan,
        context,
    )


def _extra_maps(
    source: str, teacher: Classifier, plan: PerturbationPlan, context: ObjectiveContext
) -> Explanation:
    """Return another teacher's maps, of the classes that the first one predicts.

    It is known by its answers, because a factory has no file to tell it by.
    """
    answers = teacher.logits(training_data(context.data).series.numpy())
    return _cached_maps(
        f"maps-{plan.width}-{plan.stride}-{fingerprint(source)[:8]}",
        hashlib.sha256(answers.tobytes()).hexdigest(),
        lambda: teacher,
        plan,
        context,
    )


def _cached_maps(
    name: str,
    teacher_key: str,
    open_teacher: Callable[[], Classifier],
    plan: PerturbationPlan,
    context: ObjectiveContext,
) -> Explanation:
    """Return a teacher's maps; it is asked only if none of this plan are kept.

    The student has no part in the key, and the folder is no part of the student's, so that
    another student finds the same maps.
    """
    series = training_data(context.data).series.numpy()
    targets: Ints = context.explanation.logits.argmax(axis=1)
    hashes = [hashlib.sha256(part.tobytes()).hexdigest() for part in (series, targets)]
    key = fingerprint([teacher_key, *hashes, series.shape, plan.to_dict()])
    folder = context.cache_folder / name
    if not is_unchanged(folder, key):
        on_progress = partial(context.on_progress, "ask the teacher for maps")
        ask = partial(write_maps, teacher=open_teacher(), series=series, targets=targets, plan=plan)
        make_stage(folder, key, lambda whole, _: ask(whole, on_progress=on_progress))
    return open_maps(folder, context.explanation.logits)


MAP_BUILDERS: dict[type, Callable[[Any, ObjectiveContext], Objective]] = {TSDMapsTerm: _tsd_maps}
