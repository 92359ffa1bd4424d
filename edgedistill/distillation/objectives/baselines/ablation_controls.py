"""Ablation controls: distillation from a teacher whose knowledge was removed.

A gain that is attributed to a teacher's saliency must exceed the gain from maps that carry none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from edgedistill.distillation import seeds
from edgedistill.distillation.context import ObjectiveContext
from edgedistill.io.arrays import Floats, Ints
from edgedistill.models.networks import build
from edgedistill.saliency.occlusion import Explanation
from edgedistill.teachers.torch import TorchClassifier


def shuffled_maps(teacher: Explanation, groups: Sequence[Ints], *, seed: int) -> Explanation:
    """Return an explanation whose signed maps are those of other series.

    The maps stay real maps of this teacher, but not of the series they stand for. Logits, and
    with them the classes that the maps are of, are not shuffled.

    Args:
        teacher: explanation of M series.
        groups: rows among which maps are exchanged, training and validation series apart;
            a row that is alone in its group keeps its map.
        seed: seed of the shuffling.
    """
    rng = np.random.default_rng(seed)
    signed = teacher.signed.copy()
    for rows in groups:
        order = rng.permutation(rows)
        signed[order] = teacher.signed[np.roll(order, 1)]  # one circle, so no map stays in place
    return replace(teacher, signed=signed)


def match_logit_scale(logits: Floats, teacher: Floats) -> Floats:
    """Return an untrained network's logits scaled to the spread of the teacher's.

    Unscaled they hardly differ, neither from series to series nor from class to class, and any
    objective would beat such a control.

    Args:
        logits: logits of the untrained network, (M, K).
        teacher: logits of the teacher, (M, K).

    Returns:
        (M, K), each class with a mean of 0 over the series, and with the teacher's standard
        deviation around the means of the series.

    Source: Sarnthein et al. 2023, arXiv:2302.12091, for the random teacher; the scaling is ours.
    """
    centered = logits - logits.mean(axis=0)
    factor = _spread(teacher) / max(_spread(centered), 1e-30)
    scaled: Floats = (centered * factor).astype(np.float32)
    return scaled


def _spread(logits: Floats) -> float:
    return float((logits - logits.mean(axis=1, keepdims=True)).std())


def untrained_teacher(context: ObjectiveContext) -> TorchClassifier:
    """Return a network as the recipe builds its teacher, before any training."""
    _, channels, length = context.data.series.shape
    classes = context.logits.shape[1]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(context.seed + seeds.RANDOM_TEACHER)
        module = build(context.teacher_spec, channels=channels, classes=classes, length=length)
    return TorchClassifier(module, classes=classes, name="random teacher")
