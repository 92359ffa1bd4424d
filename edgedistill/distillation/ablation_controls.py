"""Controls: what a student learns from a teacher whose knowledge was taken away.

A gain that is claimed for a teacher's reasons must beat the gain from reasons that are none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from edgedistill.io.arrays import Floats, Ints
from edgedistill.saliency.occlusion import Explanation


def shuffled_maps(teacher: Explanation, groups: Sequence[Ints], *, seed: int) -> Explanation:
    """Return an explanation whose signed maps are those of other series.

    The maps stay real maps of this teacher, only not of the series they stand for. Answers,
    and with them the classes that maps are of, stay where they are.

    Args:
        teacher: explanation of M series.
        groups: rows among which maps are exchanged, training and validation series apart;
            a row that is alone in its group keeps its map.
        seed: of the order.
    """
    rng = np.random.default_rng(seed)
    signed = teacher.signed.copy()
    for rows in groups:
        order = rng.permutation(rows)
        signed[order] = teacher.signed[np.roll(order, 1)]  # one circle, so nobody keeps its own
    return replace(teacher, signed=signed)


def match_logit_scale(logits: Floats, teacher: Floats) -> Floats:
    """Return an untrained network's logits as far apart as the teacher's.

    As they are they hardly differ, neither from series to series nor from class to class: a
    control that asks for nothing is beaten by anything.

    Args:
        logits: of the untrained network, (M, K).
        teacher: (M, K).

    Returns:
        (M, K), each class with a mean of 0 over the series, and with the teacher's standard
        deviation around the means of the series.

    Source: Sarnthein et al. 2023, arXiv:2302.12091, for the random teacher; the stretching is
    ours.
    """
    centered = logits - logits.mean(axis=0)
    factor = _spread(teacher) / max(_spread(centered), 1e-30)
    found: Floats = (centered * factor).astype(np.float32)
    return found


def _spread(logits: Floats) -> float:
    return float((logits - logits.mean(axis=1, keepdims=True)).std())
