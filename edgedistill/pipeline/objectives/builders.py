"""From what a recipe asks of a student to objectives that know the teacher."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from edgedistill.distillation.objectives import KD, CrossEntropy, Objective, XDistillation
from edgedistill.pipeline.objectives.context import ObjectiveContext
from edgedistill.pipeline.objectives.cutmix_windows import WINDOW_BUILDERS
from edgedistill.pipeline.objectives.layers import LAYER_BUILDERS
from edgedistill.pipeline.objectives.maps import MAP_BUILDERS
from edgedistill.pipeline.objectives.predictions import LOGIT_BUILDERS
from edgedistill.pipeline.objectives.relations import RELATION_BUILDERS
from edgedistill.pipeline.stages.teacher import perturbation_plan
from edgedistill.recipe.objectives import CrossEntropyTerm, KDTerm, ObjectiveTerm, XDistillationTerm


def objective(term: ObjectiveTerm, context: ObjectiveContext) -> Objective:
    """Return the objective that a term of a recipe names.

    Raises:
        ConfigError: the teacher cannot give what it needs, or there is no such layer.
    """
    build: Callable[[Any, ObjectiveContext], Objective] = _BUILDERS[type(term)]
    with torch.random.fork_rng(devices=[]):  # what it learns itself begins as the seed says
        torch.manual_seed(context.recipe.seed)
        return build(term, context)


def _cross_entropy(term: CrossEntropyTerm, context: ObjectiveContext) -> Objective:
    del term, context
    return CrossEntropy()


def _kd(term: KDTerm, context: ObjectiveContext) -> Objective:
    return KD(context.logits, temperature=term.temperature)


def _xdistillation(term: XDistillationTerm, context: ObjectiveContext) -> Objective:
    context.require_maps(term.name)
    return XDistillation(
        context.explanation, perturbation_plan(context.recipe, context.data.length)
    )


_BUILDERS: dict[type, Callable[[Any, ObjectiveContext], Objective]] = {
    CrossEntropyTerm: _cross_entropy,
    KDTerm: _kd,
    XDistillationTerm: _xdistillation,
    **LOGIT_BUILDERS,
    **LAYER_BUILDERS,
    **MAP_BUILDERS,
    **WINDOW_BUILDERS,
    **RELATION_BUILDERS,
}
