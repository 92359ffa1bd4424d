"""Objectives that look into the teacher: its layers, its embeddings, heads at its layers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from edgedistill.distillation.features import (
    TeacherFeatures,
    default_layers,
    embedding_size,
    layer_channels,
)
from edgedistill.distillation.heads import evenly_spaced_layers, head_logits
from edgedistill.distillation.objectives import (
    DIH,
    DT2W,
    SSKD,
    VID,
    AttentionTransfer,
    FitNets,
    MemKD,
    Objective,
)
from edgedistill.pipeline.objectives.context import ObjectiveContext, layer_pair
from edgedistill.pipeline.stages.teacher import training_data
from edgedistill.recipe.objectives import (
    AttentionTerm,
    DIHTerm,
    DT2WTerm,
    FitNetsTerm,
    MemKDTerm,
    SSKDTerm,
    VIDTerm,
)


def _fitnets(term: FitNetsTerm, context: ObjectiveContext) -> Objective:
    return FitNets(layer_pair(term, context, hint=True))


def _attention(term: AttentionTerm, context: ObjectiveContext) -> Objective:
    return AttentionTransfer(layer_pair(term, context))


def _vid(term: VIDTerm, context: ObjectiveContext) -> Objective:
    return VID(layer_pair(term, context))


def _dt2w(term: DT2WTerm, context: ObjectiveContext) -> Objective:
    return DT2W(layer_pair(term, context), gamma=term.gamma, steps=term.steps)


def _memkd(term: MemKDTerm, context: ObjectiveContext) -> Objective:
    pair = layer_pair(term, context)
    return MemKD(pair, subsequences=term.subsequences, seed=context.recipe.seed)


def _sskd(term: SSKDTerm, context: ObjectiveContext) -> Objective:
    teacher = context.network(term.name)
    for network in (teacher, context.student):
        embedding_size(network, context.sample)  # refuses one without an embedding, by name
    return SSKD(
        teacher,
        temperature=term.temperature,
        similarity_temperature=term.similarity_temperature,
        views_weight=term.views_weight,
        similarity_weight=term.similarity_weight,
        seed=context.recipe.seed,
    )


def _dih(term: DIHTerm, context: ObjectiveContext) -> Objective:
    module = context.network(term.name)
    found = layer_channels(module, context.sample)
    default_layers(found)  # refuses a network without layers over time, by name
    layers = evenly_spaced_layers(list(found), term.heads)
    heads = head_logits(TeacherFeatures(module, layers), layers, training_data(context.data))
    return DIH(torch.cat([heads, context.logits[None]]), temperature=term.temperature)


LAYER_BUILDERS: dict[type, Callable[[Any, ObjectiveContext], Objective]] = {
    AttentionTerm: _attention,
    DIHTerm: _dih,
    DT2WTerm: _dt2w,
    FitNetsTerm: _fitnets,
    MemKDTerm: _memkd,
    SSKDTerm: _sskd,
    VIDTerm: _vid,
}
