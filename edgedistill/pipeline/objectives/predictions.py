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
from edgedistill.pipeline.objectives.context import ObjectiveContext
from edgedistill.pipeline.stages.teacher import perturbation_plan, training_data
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
from edgedistill.teachers import TorchClassifier

RANDOM_SEED = 2000  # added to the seed of the random teacher, or a student might begin as it


def _dkd(term: DKDTerm, context: ObjectiveContext) -> Objective:
    return DKD(
        context.logits,
        alpha=term.alpha,
        beta=term.beta,
        temperature=term.temperature,
        warmup=term.warmup,
    )


def _dist(term: DISTTerm, context: ObjectiveContext) -> Objective:
    return DIST(context.logits, beta=term.beta, gamma=term.gamma, temperature=term.temperature)


def _e2kd(term: E2KDTerm, context: ObjectiveContext) -> Objective:
    context.require_maps(term.name)
    return E2KD(context.explanation, _plan(context))


def _ranking(term: RankingTerm, context: ObjectiveContext) -> Objective:
    context.require_maps(term.name)
    return Ranking(context.explanation, _plan(context), top=term.top)


def _ensemble(term: EnsembleTerm, context: ObjectiveContext) -> Objective:
    known = training_data(context.data)
    others = [
        open_source(source, context.recipe, context.data, trust=term.trust)
        for source in term.sources
    ]
    said = [torch.from_numpy(other.logits(known.series.numpy())) for other in others]
    return Ensemble(
        [context.logits, *said],
        known.labels,
        temperature=term.temperature,
        weighting=term.weighting,
    )


def _shuffled_saliency(term: ShuffledSaliencyTerm, context: ObjectiveContext) -> Objective:
    context.require_maps(term.name)
    known = training_data(context.data)
    groups = [known.train.numpy(), known.validation.numpy()]
    return TSDMaps(
        shuffled_maps(context.explanation, groups, seed=context.recipe.seed), _plan(context)
    )


def _random_teacher(term: RandomTeacherTerm, context: ObjectiveContext) -> Objective:
    series = training_data(context.data).series.numpy()
    logits = match_logit_scale(_untrained(context).logits(series), context.explanation.logits)
    return KD(torch.from_numpy(logits), temperature=term.temperature)


def _random_saliency(term: RandomSaliencyTerm, context: ObjectiveContext) -> Objective:
    del term
    plan, teacher = _plan(context), _untrained(context)
    series = training_data(context.data).series.numpy()
    return TSDMaps(explain(teacher.logits, series, plan, changes=teacher.changes), plan)


def _untrained(context: ObjectiveContext) -> TorchClassifier:
    """Return a network as the recipe builds its teacher, before any training."""
    seed = context.recipe.seed + RANDOM_SEED
    module = networks.build_untrained(context.recipe.teacher, context.data, seed=seed)
    return TorchClassifier(module, classes=context.data.classes, name="random teacher")


def _plan(context: ObjectiveContext) -> PerturbationPlan:
    return perturbation_plan(context.recipe, context.data.length)


LOGIT_BUILDERS: dict[type, Callable[[Any, ObjectiveContext], Objective]] = {
    DISTTerm: _dist,
    DKDTerm: _dkd,
    E2KDTerm: _e2kd,
    EnsembleTerm: _ensemble,
    RandomSaliencyTerm: _random_saliency,
    RandomTeacherTerm: _random_teacher,
    RankingTerm: _ranking,
    ShuffledSaliencyTerm: _shuffled_saliency,
}
