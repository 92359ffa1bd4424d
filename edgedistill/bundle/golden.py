"""The golden set: held-out series with logits and saliency of teacher and student.

It is part of the bundle, so that a board can run its model on the same series and compare the
outputs with the recorded ones. NumPy only.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from edgedistill.errors import DataError, IntegrityError, ShapeError
from edgedistill.evaluation import metrics
from edgedistill.io.arrays import Floats, Ints
from edgedistill.io.npz import read_npz
from edgedistill.saliency.occlusion import Explanation
from edgedistill.saliency.perturbation import PerturbationPlan

GOLDEN_SERIES = 64
Scalar = TypeVar("Scalar", np.float32, np.int64)
_MAPS = ("logits", "kl", "signed")


@dataclass(frozen=True, slots=True, kw_only=True)
class Golden:
    """Preprocessed series and the recorded outputs, all explained under one plan."""

    series: Floats  # (N, C, T), as `Preprocessing.apply` gives them
    labels: Ints  # true classes, (N,)
    teacher: Explanation
    student: Explanation  # FP32, explaining the teacher's classes

    @property
    def targets(self) -> Ints:
        """Classes that every saliency map explains: the teacher's, (N,)."""
        targets: Ints = self.teacher.logits.argmax(axis=1)
        return targets

    def check(self, plan: PerturbationPlan, classes: int) -> None:
        """Raise ShapeError unless all arrays fit together, the plan and the classes."""
        if self.series.ndim != 3 or not self.series.size:
            raise ShapeError(f"series has shape {self.series.shape}, not (N, C, T).")
        samples, windows = len(self.series), len(plan.starts)
        shapes: dict[str, tuple[int, ...]] = {
            "series": (samples, self.series.shape[1], plan.length),
            "labels": (samples,),
        }
        for who in ("teacher", "student"):
            shapes[f"{who}_logits"] = (samples, classes)
            shapes |= {f"{who}_{name}": (samples, windows) for name in _MAPS[1:]}
        for name, array in _arrays(self).items():
            if array.shape != shapes[name] or not np.isfinite(array).all():
                raise ShapeError(
                    f"{name} has shape {array.shape}; it must be {shapes[name]} and finite, for "
                    f"{samples} series, {classes} classes and {windows} windows."
                )
        if not 0 <= self.labels.min() <= self.labels.max() < classes:
            raise ShapeError(
                f"labels reach from {self.labels.min()} to {self.labels.max()}; {classes} classes "
                f"are 0 to {classes - 1}."
            )


def choose_golden(
    labels: Ints, agreement: Floats, pearson: Floats, count: int = GOLDEN_SERIES
) -> Ints:
    """Return which series to take, so that their means match those of the whole set.

    A systematic sample: sorted by class, then agreement, then saliency agreement, it
    takes evenly spaced ones. Drawn at random, 64 series would often give a verdict that
    the whole set does not.

    Args:
        labels: true classes, (N,).
        agreement: 1 where the student names the teacher's class, (N,).
        pearson: correlation of the student's and the teacher's signed maps, (N,).
        count: series to take; all of them if there are no more.

    Returns:
        Indices, ascending, (min(N, count),); the same for the same input.

    Raises:
        ShapeError: the arrays disagree on N, there are none, or count is below 1.
    """
    samples = len(labels)
    if not samples == len(agreement) == len(pearson) or samples < 1 or count < 1:
        raise ShapeError(
            f"Got {samples} labels, {len(agreement)} agreements and {len(pearson)} correlations "
            f"to choose {count} from. Measure all three on the same series, at least one."
        )
    if samples <= count:
        return np.arange(samples)
    order = np.lexsort((pearson, agreement, labels))  # the last key sorts first
    middles = (2 * np.arange(count) + 1) * samples // (2 * count)
    return np.sort(order[middles])


def golden_set(
    series: Floats,
    labels: Ints,
    teacher: Explanation,
    student: Explanation,
    variant: Explanation,
    count: int,
) -> Golden:
    """Return the golden set of `choose_golden`, with the recorded explanations.

    Args:
        series: held-out series, (N, C, T).
        labels: classes of the series, (N,).
        teacher: explanation of the series by the teacher.
        student: explanation by the FP32 student.
        variant: explanation by the variant whose agreement with the teacher decides.
        count: number of series to choose.
    """
    rows = choose_golden(
        labels,
        metrics.agrees(teacher.logits, variant.logits),
        metrics.pearson(teacher.signed, variant.signed),
        count,
    )
    return Golden(
        series=series[rows],
        labels=labels[rows],
        teacher=_select_rows(teacher, rows),
        student=_select_rows(student, rows),
    )


def save_golden(golden: Golden, path: Path) -> None:
    """Write the arrays as NPZ; equal arrays give equal bytes."""
    arrays: dict[str, Any] = _arrays(golden)
    with path.open("wb") as stream:
        np.savez(stream, **arrays)  # NumPy 1 would store allow_pickle as an array


def load_golden(path: Path) -> Golden:
    """Read the file of `save_golden`.

    Raises:
        IntegrityError: no NPZ of ours, or an array is missing, unknown or of another type.
    """
    try:
        arrays = read_npz(path)
        golden = Golden(
            series=_typed(arrays.pop("series"), np.float32),
            labels=_typed(arrays.pop("labels"), np.int64),
            teacher=_explanation(arrays, "teacher"),
            student=_explanation(arrays, "student"),
        )
    except (DataError, KeyError, ValueError) as error:
        raise IntegrityError(
            f"{path.name} is no golden set: {error}. Make the bundle anew."
        ) from error
    if arrays:
        raise IntegrityError(
            f"{path.name} holds unknown arrays {', '.join(sorted(arrays))}. Make the bundle anew."
        )
    return golden


def _explanation(arrays: dict[str, NDArray[np.generic]], who: str) -> Explanation:
    logits, kl, signed = (_typed(arrays.pop(f"{who}_{name}"), np.float32) for name in _MAPS)
    return Explanation(logits=logits, kl=kl, signed=signed)


def _typed(array: NDArray[np.generic], scalar: type[Scalar]) -> NDArray[Scalar]:
    if array.dtype != np.dtype(scalar):
        raise ValueError(f"an array is {array.dtype}, not {np.dtype(scalar)}")
    return array.astype(scalar, copy=False)


def _arrays(golden: Golden) -> dict[str, NDArray[np.float32] | NDArray[np.int64]]:
    arrays: dict[str, NDArray[np.float32] | NDArray[np.int64]] = {
        "series": np.asarray(golden.series, dtype=np.float32),
        "labels": np.asarray(golden.labels, dtype=np.int64),
    }
    for who, said in (("teacher", golden.teacher), ("student", golden.student)):
        for name in _MAPS:
            arrays[f"{who}_{name}"] = np.asarray(getattr(said, name), dtype=np.float32)
    return arrays


def _select_rows(explanation: Explanation, rows: Ints) -> Explanation:
    return Explanation(explanation.logits[rows], explanation.kl[rows], explanation.signed[rows])
