"""Saliency of any black box by occlusion: the changes of the logits of perturbed copies.

It needs logits and nothing else, so the same code explains a torch module, an
ONNX session and an engine on a board. NumPy only.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial

import edgedistill_kernels as kernels
import numpy as np

from edgedistill.errors import ModelError, ShapeError
from edgedistill.io.arrays import Floats, Ints
from edgedistill.saliency.classifier import (
    MEMORY_BYTES,
    BatchSizer,
    ChangesFn,
    Classifier,
    LogitsFn,
    WindowBatch,
    batched_logits,
)
from edgedistill.saliency.perturbation import PerturbationPlan, baseline_patches

BATCH_COPIES = 512  # series or copies a call; fills a small CPU's cores


@dataclass(frozen=True, slots=True)
class Explanation:
    """Logits and saliency maps of some series.

    Two maps are kept a window: `kl`, Temporal Saliency Distillation's own (how far
    the class distribution moves, never negative), and `signed`, how much the
    window supports the target class (positive: covering it lowers the logit).
    """

    logits: Floats  # (N, K)
    kl: Floats  # (N, W)
    signed: Floats  # (N, W), in centered logits


@dataclass(frozen=True, slots=True)
class _Calls:
    """Bounds and progress of the calls of a model."""

    batch: int | None
    memory_bytes: int
    on_progress: Callable[[int, int], None] | None


def explain(
    predict: LogitsFn,
    series: Floats,
    plan: PerturbationPlan,
    *,
    targets: Ints | None = None,
    changes: ChangesFn | None = None,
    batch: int | None = BATCH_COPIES,
    memory_bytes: int = MEMORY_BYTES,
    on_progress: Callable[[int, int], None] | None = None,
) -> Explanation:
    """Return logits and both saliency maps of `series`.

    With the same `batch` the same calls are made on every machine, so that figures compare.

    Args:
        predict: logits of a batch, (N, C, T) -> (N, K).
        series: (N, C, T).
        plan: which windows are covered by what.
        targets: class to explain, (N,), such as the teacher's; by default the predicted one.
        changes: faster function for the changes of the logits; by default copies are predicted.
        batch: series or copies a call; None tunes it, and last digits may differ between runs.
        memory_bytes: bound on the perturbed copies, or the patches for `changes`, that are held
            at any time; what the model itself needs comes on top.
        on_progress: callback for the number of windows done and their number, N x W.

    Raises:
        ConfigError: `batch` is below 1, or `memory_bytes` does not hold one copy.
        MachineError: the model runs out of memory on a single copy.
        ModelError: the logits have a wrong shape or are not finite.
        ShapeError: series, plan, targets and the model's classes do not fit together.
    """
    logits = _clean_logits(predict, series, BATCH_COPIES if batch is None else batch)
    targets = _checked_targets(targets, logits)
    calls = _Calls(batch, memory_bytes, on_progress)
    if changes is None:
        perturbed = _perturbed_logits(predict, series, plan, calls)
    else:
        perturbed = logits[:, None] + _logit_changes(changes, series, plan, calls)
    return _maps(logits, perturbed, targets, plan)


def explain_classifier(
    classifier: Classifier,
    series: Floats,
    plan: PerturbationPlan,
    *,
    targets: Ints | None = None,
    batch: int | None = BATCH_COPIES,
    memory_bytes: int = MEMORY_BYTES,
    on_progress: Callable[[int, int], None] | None = None,
) -> Explanation:
    """Compute the saliency of a classifier, by its `changes` if it has them.

    Arguments and errors are those of `explain`.
    """
    return explain(
        classifier.logits,
        series,
        plan,
        targets=targets,
        changes=classifier.changes,
        batch=batch,
        memory_bytes=memory_bytes,
        on_progress=on_progress,
    )


def signed_change(logits: Floats, perturbed: Floats, targets: Ints) -> Floats:
    """Return how much the target's centered logit falls when a window is covered, (N, W).

    Logits are centered over the classes first: softmax does not depend on a shift
    common to all of them, so no student has to copy it.
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


def _clean_logits(predict: LogitsFn, series: Floats, batch: int) -> Floats:
    """Return the logits of the series themselves, (N, K)."""
    if not len(series):
        raise ShapeError("Got no series to explain. Bring at least one.")
    calls = BatchSizer(
        batch, 1, batch
    )  # they are held already, so a call takes no memory for copies
    return batched_logits(
        lambda p: _checked_logits(predict, series[p.rows])[:, None], len(series), 1, calls
    )[:, 0]


@dataclass(frozen=True)
class _WindowSubset(PerturbationPlan):
    """A plan of which only some windows are taken."""

    selected: slice

    @property
    def starts(self) -> Ints:
        return super().starts[self.selected]


def _perturbed_logits(
    predict: LogitsFn, series: Floats, plan: PerturbationPlan, calls: _Calls
) -> Floats:
    """Return the logits of every perturbed copy, (N, W, K)."""
    copy_bytes = _step_bytes(series) * (plan.length + plan.width)
    sizer = BatchSizer(calls.batch, copy_bytes, calls.memory_bytes)
    compute = partial(_copy_logits, predict, series, plan)
    return batched_logits(compute, len(series), len(plan.starts), sizer, calls.on_progress)


def _logit_changes(
    changes: ChangesFn, series: Floats, plan: PerturbationPlan, calls: _Calls
) -> Floats:
    """Return the changes of the logits by every window, (N, W, K)."""
    windows = len(plan.starts)
    # Whole series, if memory allows: a model runs each of them once, unperturbed, a call.
    size = max(BATCH_COPIES if calls.batch is None else calls.batch, windows)
    sizer = BatchSizer(size, _step_bytes(series) * plan.width, calls.memory_bytes)
    compute = partial(_change_logits, changes, series, plan)
    return batched_logits(compute, len(series), windows, sizer, calls.on_progress)


def _step_bytes(series: Floats) -> int:
    return series.itemsize * math.prod(series.shape[1:-1])


def _maps(logits: Floats, perturbed: Floats, targets: Ints, plan: PerturbationPlan) -> Explanation:
    # float64: at a high temperature the terms of a small KL cancel below float32's rounding.
    kl = kernels.window_saliency(
        logits.astype(np.float64), perturbed.astype(np.float64), temperature=plan.temperature
    )
    return Explanation(
        logits=logits,
        kl=np.maximum(kl, 0).astype(np.float32),  # a KL of 0 may round to -1e-17
        signed=signed_change(logits, perturbed, targets),
    )


def _copy_logits(
    predict: LogitsFn, series: Floats, plan: PerturbationPlan, batch: WindowBatch
) -> Floats:
    """Return the logits of a batch's copies, (n, m, K), from one call."""
    part, starts, patches = _cut(series, plan, batch)
    everywhere = np.broadcast_to(starts, (len(part), len(starts)))
    copies = kernels.perturb(part, everywhere, patches)  # (n, m, C, T)
    flat = copies.reshape(-1, *series.shape[1:])
    return _checked_logits(predict, flat).reshape(*everywhere.shape, -1)


def _change_logits(
    changes: ChangesFn, series: Floats, plan: PerturbationPlan, batch: WindowBatch
) -> Floats:
    """Return the model's own changes of the logits by a batch's windows, (n, m, K)."""
    return changes(*_cut(series, plan, batch))


def _cut(series: Floats, plan: PerturbationPlan, batch: WindowBatch) -> tuple[Floats, Ints, Floats]:
    """Return a batch's series (n, C, T), starts (m,) and patches (n, m, C, w)."""
    part = series[batch.rows]
    some = _WindowSubset(**asdict(plan), selected=batch.windows)
    return part, some.starts, baseline_patches(some, part)


def _checked_logits(predict: LogitsFn, series: Floats) -> Floats:
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


def _checked_targets(targets: Ints | None, logits: Floats) -> Ints:
    """Return the classes to explain, by default the predicted ones."""
    if targets is None:
        predicted: Ints = logits.argmax(axis=1)
        return predicted
    if len(targets) != len(logits):
        raise ShapeError(
            f"Got {len(targets)} targets for {len(logits)} series. Give one class a series."
        )
    if targets.min() < 0 or targets.max() >= logits.shape[1]:
        raise ShapeError(
            f"The targets run from {targets.min()} to {targets.max()}, the model knows "
            f"{logits.shape[1]} classes. Compare models that were trained for the same classes."
        )
    return targets
