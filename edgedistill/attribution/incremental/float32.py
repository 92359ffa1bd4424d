"""Window saliency in float32, as exact as the data allow: engines on boards have no float64.

At a high temperature the distributions of a series and its copy are so close that the terms of
their divergence cancel below float32's rounding. So no terms that cancel are added here: with the
changes centered to a mean of 0 under p, the divergence is

    KL(p || q) = log(sum p exp(u)) = log1p(sum p (exp(u) - 1 - u)),

whose terms are all positive, and which a short series gives without a difference.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

_NEAR = 1.0  # changes in units of the temperature; beyond it nothing cancels
_COEFFICIENTS = tuple(1 / math.factorial(n) for n in range(10, 1, -1))  # of exp(u) - 1 - u


def window_scores(logits: Tensor, changes: Tensor, *, temperature: float) -> Tensor:
    """Return `KL(p(x) || p(x~)) * temperature**2` of every window, (N, W), never negative.

    Args:
        logits: (N, K).
        changes: logits of the perturbed copies less the clean ones, (N, W, K).
        temperature: divides the logits.
    """
    log_p = functional.log_softmax(logits / temperature, dim=-1)[:, None]
    p = log_p.exp()
    moved = changes / temperature
    centered = moved - (p * moved).sum(dim=-1, keepdim=True)
    log_q = functional.log_softmax((logits[:, None] + changes) / temperature, dim=-1)
    far = (p * (log_p - log_q)).sum(dim=-1).relu()
    is_near = centered.abs().amax(dim=-1) <= _NEAR
    return torch.where(is_near, _near(p, centered), far) * temperature**2


def _near(p: Tensor, centered: Tensor) -> Tensor:
    """Return log1p(sum p (exp(u) - 1 - u)) for |u| up to `_NEAR`; anything finite beyond it."""
    u = centered.clamp(-_NEAR, _NEAR)
    excess = u * _COEFFICIENTS[0] + _COEFFICIENTS[1]  # Horner's scheme
    for coefficient in _COEFFICIENTS[2:]:
        excess = excess * u + coefficient
    total = (p * u * u * excess).sum(dim=-1)
    return 2 * torch.atanh(total / (total + 2))  # log1p(total): ONNX has no operator for that
