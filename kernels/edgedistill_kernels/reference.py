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
    samples, channels, length = series.shape
    windows = starts.shape[1]
    width = patches.shape[-1]
    if starts.shape != (samples, windows) or patches.shape != (samples, windows, channels, width):
        raise ValueError(
            f"series {series.shape}, starts {starts.shape}, patches {patches.shape} do not fit."
        )
    _check_windows(starts, width, length)
    copies = np.repeat(series[:, None], windows, axis=1)  # (N, C, T) -> (N, W, C, T)
    for sample in range(samples):
        for window, start in enumerate(starts[sample]):
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

    Source: Temporal Saliency Distillation, arXiv:2601.04263.
    """
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
    """
    _check_windows(starts, width, length)
    total = np.zeros((len(scores), length), dtype=scores.dtype)
    cover = np.zeros((len(scores), length), dtype=scores.dtype)
    for sample in range(len(scores)):
        for score, start in zip(scores[sample], starts[sample], strict=True):
            total[sample, start : start + width] += score
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
