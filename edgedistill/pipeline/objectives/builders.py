"""From what a recipe asks of a student to objectives that know the teacher."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from edgedistill.distillation.objectives import KD, CrossEntropy, Objective, XDistillation
from edgedistill.pipeline.objectives.context import Lesson
from edgedistill.pipeline.objectives.cutmix_windows import OPPOSING_BUILDERS
from edgedistill.pipeline.objectives.layers import LAYER_BUILDERS
from edgedistill.pipeline.objectives.maps import MAP_BUILDERS
from edgedistill.pipeline.objectives.predictions import ANSWER_BUILDERS
from edgedistill.pipeline.objectives.relations import RELATION_BUILDERS
from edgedistill.pipeline.stages.teacher import plan_of
from edgedistill.recipe.objectives import CrossEntropyTerm, KDTerm, ObjectiveTerm, XDistillationTerm


def objective(term: ObjectiveTerm, lesson: Lesson) -> Objective:
    """Return the objective that a term of a recipe names.

    Raises:
        ConfigError: the teacher cannot give what it needs, or there is no such layer.
    """
    build: Callable[[Any, Lesson], Objective] = _BUILDERS[type(term)]
    with torch.random.fork_rng(devices=[]):  # what it learns itself begins as the seed says
        torch.manual_seed(lesson.recipe.seed)
        return build(term, lesson)


def _cross_entropy(term: CrossEntropyTerm, lesson: Lesson) -> Objective:
    del term, lesson
    return CrossEntropy()


def _kd(term: KDTerm, lesson: Lesson) -> Objective:
    return KD(lesson.logits, temperature=term.temperature)


def _xdistillation(term: XDistillationTerm, lesson: Lesson) -> Objective:
    lesson.explainable(term.name)
    return XDistillation(lesson.known, plan_of(lesson.recipe, lesson.data.train.x.shape[2]))


_BUILDERS: dict[type, Callable[[Any, Lesson], Objective]] = {
    CrossEntropyTerm: _cross_entropy,
    KDTerm: _kd,
    XDistillationTerm: _xdistillation,
    **ANSWER_BUILDERS,
    **LAYER_BUILDERS,
    **MAP_BUILDERS,
    **OPPOSING_BUILDERS,
    **RELATION_BUILDERS,
}
