"""Objectives that compare how series lie to each other in what both networks make of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from edgedistill.distillation.objectives import CRD, RKD, SP, Objective
from edgedistill.pipeline.objectives.context import Lesson, embedding_pair, layer_pair
from edgedistill.recipe.objectives import CRDTerm, RKDTerm, SPTerm


def _rkd(term: RKDTerm, lesson: Lesson) -> Objective:
    pair = embedding_pair(term.name, lesson)
    return RKD(pair, distance=term.distance, angle=term.angle)


def _sp(term: SPTerm, lesson: Lesson) -> Objective:
    return SP(layer_pair(term, lesson))


def _crd(term: CRDTerm, lesson: Lesson) -> Objective:
    return CRD(
        embedding_pair(term.name, lesson),
        lesson.data.train.y,
        size=term.size,
        negatives=term.negatives,
        temperature=term.temperature,
        momentum=term.momentum,
        seed=lesson.recipe.seed,
    )


RELATION_BUILDERS: dict[type, Callable[[Any, Lesson], Objective]] = {
    CRDTerm: _crd,
    RKDTerm: _rkd,
    SPTerm: _sp,
}
