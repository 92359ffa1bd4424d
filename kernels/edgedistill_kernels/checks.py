"""Checks of every kernel's arguments, whichever backend runs it."""

from __future__ import annotations

import numpy as np
from numpy.typing import DTypeLike, NDArray

from edgedistill_kernels.reference import Floats, Ints

Shape = tuple[int, ...]


def fit_windows(series: Floats, starts: Ints, patches: Floats) -> None:
    """Raise ValueError unless series (N, C, T), starts (N, W), patches (N, W, C, w) fit."""
    fits = series.ndim == 3 and patches.ndim == 4
    if not fits or patches.shape[:2] != starts.shape or patches.shape[:3:2] != series.shape[:2]:
        raise ValueError(
            f"series {series.shape}, starts {starts.shape}, patches {patches.shape} do not fit."
        )
    inside(starts, patches.shape[3], series.shape[2])


def inside(starts: Ints, width: int, length: int) -> None:
    """Raise ValueError if a window leaves its series; starts on a GPU are not looked at.

    To look would wait for the GPU; its kernels cut such a window at the border.
    """
    known = isinstance(starts, np.ndarray) and starts.size
    if known and (starts.min() < 0 or starts.max() + width > length):
        raise ValueError(
            f"Windows of {width} steps from {starts.min()} to {starts.max()} leave a series of "
            f"{length} steps."
        )


def fit_logits(clean: Floats, perturbed: Floats) -> None:
    """Raise ValueError unless clean (N, K) and perturbed (N, W, K) fit."""
    if perturbed.ndim != 3 or clean.shape != perturbed.shape[::2]:
        raise ValueError(f"clean {clean.shape} and perturbed {perturbed.shape} do not fit.")


def fit_gradient(grad: Floats, *shapes: Shape) -> None:
    """Raise ValueError unless the gradient has one of the shapes that scores can have."""
    if grad.shape not in shapes:
        allowed = " or ".join(map(str, shapes))
        raise ValueError(f"The gradient has shape {grad.shape}, the scores {allowed}.")


def fit_scores(scores: Floats, starts: Ints) -> None:
    """Raise ValueError unless scores and starts are both (N, W)."""
    if scores.ndim != 2 or scores.shape != starts.shape:
        raise ValueError(f"scores {scores.shape} and starts {starts.shape} do not fit.")


def fit_maps(first: Floats, second: Floats) -> None:
    """Raise ValueError unless both maps are (N, W)."""
    if first.ndim != 2 or first.shape != second.shape:
        raise ValueError(f"Maps of shape {first.shape} and {second.shape} do not fit.")


def fit_buffer(out: NDArray[np.generic], shape: Shape, dtype: DTypeLike) -> None:
    """Raise ValueError unless `out` can take the result as it is, in place."""
    whole = not isinstance(out, np.ndarray) or (out.flags.c_contiguous and out.flags.writeable)
    if out.shape != shape or out.dtype != dtype or not whole:
        raise ValueError(
            f"out must be a writable, C-contiguous {np.dtype(dtype)} array of shape {shape}, "
            f"got {out.dtype} {out.shape}."
        )
