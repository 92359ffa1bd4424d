"""Cache of a teacher's maps of all training and validation series under one plan."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from edgedistill.errors import DataError
from edgedistill.io.arrays import Floats, Ints
from edgedistill.saliency.classifier import Classifier
from edgedistill.saliency.occlusion import Explanation, explain_classifier
from edgedistill.saliency.perturbation import PerturbationPlan

WINDOWS_AT_ONCE = 1 << 16  # whose logits are in memory; of a window each map keeps a number
_MAPS = ("kl", "signed")


def write_maps(
    folder: Path,
    teacher: Classifier,
    series: Floats,
    targets: Ints,
    plan: PerturbationPlan,
    on_progress: Callable[[int, int], None] | None = None,
) -> None:
    """Compute a teacher's maps of every window of a plan and write them into an existing folder.

    A torch network computes only what each window changes. Beside the maps, at most the logits of
    65,536 windows are in memory, or of one series if it has more.

    Args:
        folder: existing folder for the .npy files.
        teacher: classifier that takes any series.
        series: series of the maps, (M, C, T).
        targets: class that each signed map is of, (M,).
        plan: perturbation plan of the maps.
        on_progress: callback with the number of finished series, and M.

    Raises:
        MachineError: the teacher runs out of memory on a single copy.
        ModelError: the teacher gives something other than finite logits.
        ShapeError: series, targets, plan and the teacher's classes do not fit together.
    """
    count, windows = len(series), len(plan.starts)
    kl, signed = (np.empty((count, windows), dtype=np.float32) for _ in _MAPS)
    group = max(1, WINDOWS_AT_ONCE // windows)
    for first in range(0, count, group):
        rows = slice(first, min(first + group, count))
        explanation = explain_classifier(teacher, series[rows], plan, targets=targets[rows])
        kl[rows], signed[rows] = explanation.kl, explanation.signed
        if on_progress is not None:
            on_progress(rows.stop, count)
    for name, maps in zip(_MAPS, (kl, signed), strict=True):
        np.save(folder / f"{name}.npy", maps, allow_pickle=False)


def open_maps(folder: Path, logits: Floats) -> Explanation:
    """Return the cached maps of a folder, with the logits of the same series.

    Raises:
        DataError: the folder does not hold maps of these series.
    """
    try:
        kl, signed = (np.load(folder / f"{name}.npy", allow_pickle=False) for name in _MAPS)
        _check(kl, signed, len(logits))
    except (OSError, EOFError, ValueError) as error:
        raise DataError(
            f"{folder} does not hold a teacher's maps ({error}). Delete the folder; it is made "
            "anew."
        ) from error
    return Explanation(logits, kl, signed)


def mean_maps(maps: Sequence[Floats]) -> Floats:
    """Return the mean of several teachers' maps, (M, W) each, with equal weights.

    Every map of a series is divided by its own Euclidean norm first; a map of zeros stays one.

    >>> mean_maps([np.float32([[3, 4]]), np.float32([[0, 20]])])
    array([[0.3, 0.9]], dtype=float32)
    """
    norms = [np.linalg.norm(each, axis=1, keepdims=True) for each in maps]
    units = [each / np.where(norm > 0, norm, 1) for each, norm in zip(maps, norms, strict=True)]
    mean: Floats = np.stack(units).mean(axis=0, dtype=np.float64).astype(np.float32)
    return mean


def _check(kl: Floats, signed: Floats, series: int) -> None:
    if kl.shape != signed.shape or len(kl) != series:
        raise ValueError(f"maps of shapes {kl.shape} and {signed.shape} for {series} series")
