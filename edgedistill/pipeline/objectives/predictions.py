"""Objectives that know the teacher by its answers and maps alone, and their controls."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from edgedistill.distillation.ablation_controls import match_logit_scale, shuffled_maps
from edgedistill.distillation.objectives import (
    DIST,
    DKD,
    E2KD,
    KD,
    Ensemble,
    Objective,
    Ranking,
    TSDMaps,
)
from edgedistill.pipeline import networks
from edgedistill.pipeline.extra_teachers import open_source
from edgedistill.pipeline.objectives.context import Lesson
from edgedistill.pipeline.stages.teacher import plan_of, training_data
from edgedistill.recipe.objectives import (
    DISTTerm,
    DKDTerm,
    E2KDTerm,
    EnsembleTerm,
    RandomSaliencyTerm,
    RandomTeacherTerm,
    RankingTerm,
    ShuffledSaliencyTerm,
)
from edgedistill.saliency.occlusion import explain
from edgedistill.saliency.perturbation import PerturbationPlan
from edgedistill.teachers import TorchTeacher

RANDOM_SEED = 2000  # added to the seed of the random teacher, or a student might begin as it


def _dkd(term: DKDTerm, lesson: Lesson) -> Objective:
    return DKD(
        lesson.logits,
        alpha=term.alpha,
        beta=term.beta,
        temperature=term.temperature,
        warmup=term.warmup,
    )


def _dist(term: DISTTerm, lesson: Lesson) -> Objective:
    return DIST(lesson.logits, beta=term.beta, gamma=term.gamma, temperature=term.temperature)


def _e2kd(term: E2KDTerm, lesson: Lesson) -> Objective:
    lesson.explainable(term.name)
    return E2KD(lesson.known, _plan(lesson))


def _ranking(term: RankingTerm, lesson: Lesson) -> Objective:
    lesson.explainable(term.name)
    return Ranking(lesson.known, _plan(lesson), top=term.top)


def _ensemble(term: EnsembleTerm, lesson: Lesson) -> Objective:
    known = training_data(lesson.data)
    others = [
        open_source(source, lesson.recipe, lesson.data, trust=term.trust) for source in term.sources
    ]
    said = [torch.from_numpy(other.logits(known.series.numpy())) for other in others]
    return Ensemble(
        [lesson.logits, *said],
        known.labels,
        temperature=term.temperature,
        weighting=term.weighting,
    )


def _shuffled_saliency(term: ShuffledSaliencyTerm, lesson: Lesson) -> Objective:
    lesson.explainable(term.name)
    known = training_data(lesson.data)
    groups = [known.train.numpy(), known.validation.numpy()]
    return TSDMaps(shuffled_maps(lesson.known, groups, seed=lesson.recipe.seed), _plan(lesson))


def _random_teacher(term: RandomTeacherTerm, lesson: Lesson) -> Objective:
    series = training_data(lesson.data).series.numpy()
    logits = match_logit_scale(_untrained(lesson).logits(series), lesson.known.logits)
    return KD(torch.from_numpy(logits), temperature=term.temperature)


def _random_saliency(term: RandomSaliencyTerm, lesson: Lesson) -> Objective:
    del term
    plan, teacher = _plan(lesson), _untrained(lesson)
    series = training_data(lesson.data).series.numpy()
    return TSDMaps(explain(teacher.logits, series, plan, changes=teacher.changes), plan)


def _untrained(lesson: Lesson) -> TorchTeacher:
    """Return a network as the recipe builds its teacher, before any training."""
    seed = lesson.recipe.seed + RANDOM_SEED
    module = networks.fresh(lesson.recipe.teacher, lesson.data, seed=seed)
    return TorchTeacher(module, classes=len(lesson.data.class_names), name="random teacher")


def _plan(lesson: Lesson) -> PerturbationPlan:
    return plan_of(lesson.recipe, lesson.data.train.x.shape[2])


ANSWER_BUILDERS: dict[type, Callable[[Any, Lesson], Objective]] = {
    DISTTerm: _dist,
    DKDTerm: _dkd,
    E2KDTerm: _e2kd,
    EnsembleTerm: _ensemble,
    RandomSaliencyTerm: _random_saliency,
    RandomTeacherTerm: _random_teacher,
    RankingTerm: _ranking,
    ShuffledSaliencyTerm: _shuffled_saliency,
}
