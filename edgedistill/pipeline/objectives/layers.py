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
from edgedistill.pipeline.objectives.context import Lesson, layer_pair
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


def _fitnets(term: FitNetsTerm, lesson: Lesson) -> Objective:
    return FitNets(layer_pair(term, lesson, hint=True))


def _attention(term: AttentionTerm, lesson: Lesson) -> Objective:
    return AttentionTransfer(layer_pair(term, lesson))


def _vid(term: VIDTerm, lesson: Lesson) -> Objective:
    return VID(layer_pair(term, lesson))


def _dt2w(term: DT2WTerm, lesson: Lesson) -> Objective:
    return DT2W(layer_pair(term, lesson), gamma=term.gamma, steps=term.steps)


def _memkd(term: MemKDTerm, lesson: Lesson) -> Objective:
    pair = layer_pair(term, lesson)
    return MemKD(pair, subsequences=term.subsequences, seed=lesson.recipe.seed)


def _sskd(term: SSKDTerm, lesson: Lesson) -> Objective:
    teacher = lesson.network(term.name)
    for network in (teacher, lesson.student):
        embedding_size(network, lesson.sample)  # refuses one without an embedding, by name
    return SSKD(
        teacher,
        temperature=term.temperature,
        similarity_temperature=term.similarity_temperature,
        views_weight=term.views_weight,
        similarity_weight=term.similarity_weight,
        seed=lesson.recipe.seed,
    )


def _dih(term: DIHTerm, lesson: Lesson) -> Objective:
    module = lesson.network(term.name)
    found = layer_channels(module, lesson.sample)
    default_layers(found)  # refuses a network without layers over time, by name
    layers = evenly_spaced_layers(list(found), term.heads)
    heads = head_logits(TeacherFeatures(module, layers), layers, training_data(lesson.data))
    return DIH(torch.cat([heads, lesson.logits[None]]), temperature=term.temperature)


LAYER_BUILDERS: dict[type, Callable[[Any, Lesson], Objective]] = {
    AttentionTerm: _attention,
    DIHTerm: _dih,
    DT2WTerm: _dt2w,
    FitNetsTerm: _fitnets,
    MemKDTerm: _memkd,
    SSKDTerm: _sskd,
    VIDTerm: _vid,
}
