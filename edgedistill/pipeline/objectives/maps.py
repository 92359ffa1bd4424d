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
from edgedistill.io.files import fingerprint, sha256
from edgedistill.pipeline.extra_teachers import open_source
from edgedistill.pipeline.objectives.context import Lesson
from edgedistill.pipeline.stage_folder import is_unchanged, make_stage
from edgedistill.pipeline.stages.teacher import KNOWLEDGE, open_teacher, plan_of, training_data
from edgedistill.recipe.objectives import TSDMapsTerm
from edgedistill.saliency.occlusion import Explanation
from edgedistill.saliency.perturbation import Ints, PerturbationPlan
from edgedistill.teachers import Teacher
from edgedistill.teachers.map_cache import averaged, open_maps, write_maps


def _tsd_maps(term: TSDMapsTerm, lesson: Lesson) -> Objective:
    lesson.explainable(term.name)
    shared = plan_of(lesson.recipe, lesson.data.train.x.shape[2])
    others = {source: _other(source, term, lesson) for source in term.sources}
    parts = []
    for plan in _plans(term, shared):
        taught = lesson.known if plan == shared else _own_maps(plan, lesson)
        if others:
            maps = [_other_maps(name, who, plan, lesson).signed for name, who in others.items()]
            taught = replace(taught, signed=averaged([taught.signed, *maps]))
        parts.append(TSDMaps(taught, plan, over=term.map))
    return parts[0] if len(parts) == 1 else MultiWidthObjective(parts, [1.0] * len(parts))


def _plans(term: TSDMapsTerm, shared: PerturbationPlan) -> list[PerturbationPlan]:
    """Return the plans whose maps are compared; baseline and temperature are the shared one's."""
    plans = [replace(shared, width=w, stride=max(1, w // 2)) for w in term.widths] or [shared]
    return [replace(plan, stride=1) for plan in plans] if term.map == "timesteps" else plans


def _other(source: str, term: TSDMapsTerm, lesson: Lesson) -> Teacher:
    """Return another teacher.

    Raises:
        ConfigError: it is a file of logits.
    """
    other = open_source(source, lesson.recipe, lesson.data, trust=term.trust)
    if not other.can_explain:
        raise ConfigError(
            f"The objective {term.name} asks {source} about perturbed series, and a file of logits "
            "cannot answer. Leave it out of sources, or bring the model that gave the logits."
        )
    return other


def _own_maps(plan: PerturbationPlan, lesson: Lesson) -> Explanation:
    """Return the maps of the teacher, which is opened only if none are kept."""
    return _kept(
        f"maps-{plan.width}-{plan.stride}",
        sha256(lesson.teacher / KNOWLEDGE),
        lambda: open_teacher(lesson.recipe, lesson.data, lesson.teacher),
        plan,
        lesson,
    )


def _other_maps(source: str, other: Teacher, plan: PerturbationPlan, lesson: Lesson) -> Explanation:
    """Return another teacher's maps, of the classes that the first one predicts.

    It is known by its answers, because a factory has no file to tell it by.
    """
    answers = other.logits(training_data(lesson.data).series.numpy())
    return _kept(
        f"maps-{plan.width}-{plan.stride}-{fingerprint(source)[:8]}",
        hashlib.sha256(answers.tobytes()).hexdigest(),
        lambda: other,
        plan,
        lesson,
    )


def _kept(
    name: str, answers: str, asked: Callable[[], Teacher], plan: PerturbationPlan, lesson: Lesson
) -> Explanation:
    """Return a teacher's maps; it is asked only if none of this plan are kept.

    The student has no part in the key, and the folder is no part of the student's, so that
    another student finds the same maps.
    """
    series = training_data(lesson.data).series.numpy()
    targets: Ints = lesson.known.logits.argmax(axis=1)
    hashes = [hashlib.sha256(part.tobytes()).hexdigest() for part in (series, targets)]
    key = fingerprint([answers, *hashes, series.shape, plan.to_dict()])
    folder = lesson.home / name
    if not is_unchanged(folder, key):
        told = partial(lesson.tell, "ask the teacher for maps")
        ask = partial(write_maps, teacher=asked(), series=series, targets=targets, plan=plan)
        make_stage(folder, key, lambda whole, _: ask(whole, tell=told))
    return open_maps(folder, lesson.known.logits)


MAP_BUILDERS: dict[type, Callable[[Any, Lesson], Objective]] = {TSDMapsTerm: _tsd_maps}
