"""The definition of every kernel in plain NumPy: the oracle the fast backends are held against."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]
Ints = NDArray[np.integer]
Form = Literal["summed", "elementwise"]


def perturb(series: Floats, starts: Ints, patches: Floats) -> Floats:
    """Return a copy of every series for each of its windows, the window replaced by its patch.

    Args:
        series: (N, C, T).
        starts: first step of each window, (N, W).
        patches: what stands in the window, (N, W, C, w).

    Returns:
        (N, W, C, T), of the type of `series`.

    Raises:
        ValueError: the shapes do not fit, or a window leaves its series.
    """
    fits = series.ndim == 3 and patches.ndim == 4
    if not fits or patches.shape[:2] != starts.shape or patches.shape[:3:2] != series.shape[:2]:
        raise ValueError(
            f"series {series.shape}, starts {starts.shape}, patches {patches.shape} do not fit."
        )
    width = patches.shape[3]
    _check_windows(starts, width, series.shape[2])
    copies = np.repeat(series[:, None], starts.shape[1], axis=1)  # (N, C, T) -> (N, W, C, T)
    for sample, window in np.ndindex(starts.shape):
        start = starts[sample, window]
        copies[sample, window, :, start : start + width] = patches[sample, window]
    return copies


def window_saliency(
    clean: Floats, perturbed: Floats, *, temperature: float = 1.0, form: Form = "summed"
) -> Floats:
    """Return `KL(p(x) || p(x~)) * temperature**2` of every window.

    Args:
        clean: logits of the series, (N, K).
        perturbed: logits of the perturbed copies, (N, W, K).
        temperature: divides the logits.
        form: "summed" is the divergence, (N, W); "elementwise" keeps its K terms
            apart, (N, W, K), and they can be negative.

    Raises:
        ValueError: the shapes do not fit.

    Source: Temporal Saliency Distillation, arXiv:2601.04263.
    """
    if perturbed.ndim != 3 or clean.shape != perturbed.shape[::2]:
        raise ValueError(f"clean {clean.shape} and perturbed {perturbed.shape} do not fit.")
    log_p = _log_softmax(clean / temperature)[:, None]  # (N, 1, K)
    log_q = _log_softmax(perturbed / temperature)  # (N, W, K)
    terms: Floats = np.exp(log_p) * (log_p - log_q) * temperature**2
    if form == "elementwise":
        return terms
    total: Floats = terms.sum(axis=-1)
    return total


def normalize(saliency: Floats, *, epsilon: float = 1e-8) -> Floats:
    """Divide a whole batch of scores by the mean of its positive entries.

    Source: Temporal Saliency Distillation, arXiv:2601.04263.
    """
    positive = saliency[saliency > 0]
    mean = positive.mean() if positive.size else saliency.dtype.type(0)
    scaled: Floats = saliency / (mean + epsilon)
    return scaled


def timestep_map(scores: Floats, starts: Ints, *, width: int, length: int) -> Floats:
    """Return for every time step the mean score of the windows that cover it.

    Args:
        scores: (N, W).
        starts: (N, W).
        width: w, steps.
        length: T, steps.

    Returns:
        (N, T); 0 where no window reaches.

    Raises:
        ValueError: the shapes do not fit, or a window leaves its series.
    """
    if scores.ndim != 2 or scores.shape != starts.shape:
        raise ValueError(f"scores {scores.shape} and starts {starts.shape} do not fit.")
    _check_windows(starts, width, length)
    total = np.zeros((len(scores), length), dtype=scores.dtype)
    cover = np.zeros((len(scores), length), dtype=scores.dtype)
    for sample, window in np.ndindex(scores.shape):
        start = starts[sample, window]
        total[sample, start : start + width] += scores[sample, window]
        cover[sample, start : start + width] += 1
    mean: Floats = total / np.maximum(cover, 1)
    return mean


def _check_windows(starts: Ints, width: int, length: int) -> None:
    if starts.size and (starts.min() < 0 or starts.max() + width > length):
        raise ValueError(
            f"Windows of {width} steps from {starts.min()} to {starts.max()} leave a series of "
            f"{length} steps."
        )


def _log_softmax(logits: Floats) -> Floats:
    shifted = logits - logits.max(axis=-1, keepdims=True)
    result: Floats = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return result
