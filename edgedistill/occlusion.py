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
# Series (N, C, T), starts (W,), patches (N, W, C, w) -> how windows change the logits (N, W, K)
Changes = Callable[[Floats, Ints, Floats], Floats]
BATCH_COPIES = 512  # series or copies a call; bounds memory, and fills a small CPU's cores


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
    predict: Predict,
    series: Floats,
    plan: PerturbationPlan,
    *,
    targets: Ints | None = None,
    changes: Changes | None = None,
) -> Explanation:
    """Return logits and both saliency maps of `series`.

    Args:
        predict: logits of a batch, (N, C, T) -> (N, K).
        series: (N, C, T).
        plan: which windows are covered by what.
        targets: class whose logit is explained, (N,); by default the predicted one.
            Hand the teacher's predictions over to compare a student with it.
        changes: a model's own, faster way to say what windows change; by default it is
            asked about every perturbed copy.

    Raises:
        ModelError: the logits have a wrong shape or are not finite.
        ShapeError: series, plan, targets and the model's classes do not fit together.
    """
    if not len(series):
        raise ShapeError("Got no series to explain. Bring at least one.")
    logits = _logits(predict, series)
    targets = logits.argmax(axis=1) if targets is None else targets
    _check_targets(targets, logits)
    if changes is None:
        perturbed = np.stack(list(_perturbed_logits(predict, series, plan)))  # (N, W, K)
    else:
        perturbed = logits[:, None] + _own_changes(changes, series, plan)
    # float64: at a high temperature the terms of a small KL cancel below float32's rounding.
    kl = kernels.window_saliency(
        logits.astype(np.float64), perturbed.astype(np.float64), temperature=plan.temperature
    )
    return Explanation(
        logits=logits,
        kl=np.maximum(kl, 0).astype(np.float32),  # a KL of 0 may round to -1e-17
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
        yield from _logits(predict, flat).reshape(len(part), windows, -1)


def _own_changes(changes: Changes, series: Floats, plan: PerturbationPlan) -> Floats:
    """Return what a model says its windows change, (N, W, K), a bounded number at once."""
    group = max(1, BATCH_COPIES // len(plan.starts))
    parts = [series[first : first + group] for first in range(0, len(series), group)]
    return np.concatenate([changes(part, plan.starts, fill(plan, part)) for part in parts])


def _logits(predict: Predict, series: Floats) -> Floats:
    """Return the logits of any number of series, (N, K), asking for a bounded number at once."""
    groups = range(0, len(series), BATCH_COPIES)
    return np.concatenate([_asked(predict, series[at : at + BATCH_COPIES]) for at in groups])


def _asked(predict: Predict, series: Floats) -> Floats:
    logits = np.asarray(predict(series), dtype=np.float32)
    if logits.ndim != 2 or len(logits) != len(series) or logits.shape[1] < 2:
        raise ModelError(
            f"The model gave an array of shape {logits.shape} for {len(series)} series; "
            "logits must be (N, K), one column for each of at least 2 classes."
        )
    if not np.isfinite(logits).all():
        raise ModelError(
            "The model gave logits that are not finite. Check its weights and, for FP16, its range."
        )
    return logits


def _check_targets(targets: Ints, logits: Floats) -> None:
    if len(targets) != len(logits):
        raise ShapeError(
            f"Got {len(targets)} targets for {len(logits)} series. Give one class a series."
        )
    if targets.min() < 0 or targets.max() >= logits.shape[1]:
        raise ShapeError(
            f"The targets run from {targets.min()} to {targets.max()}, the model knows "
            f"{logits.shape[1]} classes. Compare models that were trained for the same classes."
        )
