"""Saliency of any black box by occlusion: ask it about perturbed copies, note what changes.

It needs logits and nothing else, so the same code explains a torch module, an
ONNX session and an engine on a board. NumPy only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import edgedistill_kernels as kernels
import numpy as np
from numpy.typing import NDArray

from edgedistill.errors import ModelError, ShapeError
from edgedistill.perturbation import Floats, Ints, PerturbationPlan, fill

Predict = Callable[[Floats], Floats]  # (N, C, T) -> logits (N, K)
BATCH_COPIES = 512  # perturbed copies a call; bounds memory, and fills a small CPU's cores


@dataclass(frozen=True, slots=True)
class Explanation:
    """What a model says of some series, and why.

    Two maps are kept a window: `kl`, Temporal Saliency Distillation's own (how far
    the class distribution moves, never negative), and `signed`, how much the
    window supports the target class (positive: covering it lowers the logit).
    """

    logits: Floats  # (N, K)
    kl: Floats  # (N, W)
    signed: Floats  # (N, W), in centered logits


def explain(
    predict: Predict, series: Floats, plan: PerturbationPlan, *, targets: Ints | None = None
) -> Explanation:
    """Return logits and both saliency maps of `series`.

    Args:
        predict: logits of a batch, (N, C, T) -> (N, K).
        series: (N, C, T).
        plan: which windows are covered by what.
        targets: class whose logit is explained, (N,); by default the predicted one.
            Hand the teacher's predictions over to compare a student with it.

    Raises:
        ModelError: the logits have a wrong shape or are not finite.
        ShapeError: series, plan and targets do not fit together.
    """
    logits = _logits(predict, series)
    targets = logits.argmax(axis=1) if targets is None else targets
    if len(targets) != len(series):
        raise ShapeError(f"Got {len(targets)} targets for {len(series)} series.")
    perturbed = np.stack(list(_perturbed_logits(predict, series, plan)))  # (N, W, K)
    kl = kernels.window_saliency(logits, perturbed, temperature=plan.temperature)
    return Explanation(
        logits=logits,
        kl=kl.astype(np.float32),
        signed=signed_change(logits, perturbed, targets),
    )


def signed_change(logits: Floats, perturbed: Floats, targets: Ints) -> Floats:
    """Return how much the target's centered logit falls when a window is covered, (N, W).

    Logits are centered over the classes first: softmax does not see a shift common
    to all of them, so no student can be asked to copy it.
    """
    clean = logits - logits.mean(axis=-1, keepdims=True)
    changed = perturbed - perturbed.mean(axis=-1, keepdims=True)
    rows = np.arange(len(targets))
    fall: Floats = clean[rows, targets][:, None] - changed[rows, :, targets]
    return fall


def time_map(scores: Floats, plan: PerturbationPlan) -> Floats:
    """Return window scores (N, W) spread over the time steps, (N, T), for plots."""
    starts = np.broadcast_to(plan.starts, scores.shape)
    spread: Floats = kernels.timestep_map(scores, starts, width=plan.width, length=plan.length)
    return spread


def _perturbed_logits(
    predict: Predict, series: Floats, plan: PerturbationPlan
) -> Iterator[NDArray[np.float32]]:
    """Yield the logits of each series' copies, (W, K), filling every call with whole series."""
    windows = len(plan.starts)
    group = max(1, BATCH_COPIES // windows)
    for first in range(0, len(series), group):
        part = series[first : first + group]
        starts = np.broadcast_to(plan.starts, (len(part), windows))
        copies = kernels.perturb(part, starts, fill(plan, part))  # (n, W, C, T)
        flat = copies.reshape(-1, *series.shape[1:])
        parts = [
            _logits(predict, flat[at : at + BATCH_COPIES])
            for at in range(0, len(flat), BATCH_COPIES)
        ]
        yield from np.concatenate(parts).reshape(len(part), windows, -1)


def _logits(predict: Predict, series: Floats) -> Floats:
    logits = np.asarray(predict(series), dtype=np.float32)
    if logits.ndim != 2 or len(logits) != len(series):
        raise ModelError(
            f"The model gave an array of shape {logits.shape} for {len(series)} series; "
            "logits must be (N, K)."
        )
    if not np.isfinite(logits).all():
        raise ModelError(
            "The model gave logits that are not finite. Check its weights and, for FP16, its range."
        )
    return logits
