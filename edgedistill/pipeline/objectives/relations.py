"""Objectives that compare how series lie to each other in what both networks make of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from edgedistill.distillation.objectives import CRD, RKD, SP, Objective
from edgedistill.pipeline.objectives.context import ObjectiveContext, embedding_pair, layer_pair
from edgedistill.recipe.objectives import CRDTerm, RKDTerm, SPTerm


def _rkd(term: RKDTerm, context: ObjectiveContext) -> Objective:
    pair = embedding_pair(term.name, context)
    return RKD(pair, distance=term.distance, angle=term.angle)


def _sp(term: SPTerm, context: ObjectiveContext) -> Objective:
    return SP(layer_pair(term, context))


def _crd(term: CRDTerm, context: ObjectiveContext) -> Objective:
    return CRD(
        embedding_pair(term.name, context),
        context.data.train.y,
        size=term.size,
        negatives=term.negatives,
        temperature=term.temperature,
        momentum=term.momentum,
        seed=context.recipe.seed,
    )


RELATION_BUILDERS: dict[type, Callable[[Any, ObjectiveContext], Objective]] = {
    CRDTerm: _crd,
    RKDTerm: _rkd,
    SPTerm: _sp,
}
