"""Metrics of a classifier and of its explanations.

Host and device report the same numbers, so this module needs NumPy only.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgedistill.errors import ShapeError
from edgedistill.io.arrays import AnyFloats, AnyInts

RESAMPLES = 1000
ECE_BINS = 15
TOP_FRACTION = 0.1
_DRAWS_AT_ONCE = 4_000_000  # bounds the bootstrap's memory on large sets


@dataclass(frozen=True, slots=True)
class Estimate:
    """A measured value with its 95 % interval: bootstrap, or order statistics for a latency."""

    value: float
    low: float
    high: float


def estimate_mean(values: AnyFloats, *, seed: int = 0) -> Estimate:
    """Return the mean over samples, (N,), with its percentile bootstrap interval."""
    return estimate(lambda rows: values[rows].mean(axis=-1), len(values), seed=seed)


def estimate(
    statistic: Callable[[AnyInts], AnyFloats],
    samples: int,
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Estimate:
    """Return a statistic with its 95 % percentile bootstrap interval.

    Args:
        statistic: function from rows of sample indices, (R, N), to R values; rows where it
            is not defined (say, a class is missing) may be NaN.
        samples: N, number of samples.
        seed: seed of the resampling.
        resamples: R; fewer for a slow statistic. Many samples are passed in several calls.

    Raises:
        ShapeError: there are no samples.

    Source: Efron and Tibshirani 1993, the percentile interval.
    """
    if samples < 1:
        raise ShapeError("Got no samples to measure. Bring at least one series.")
    rng = np.random.default_rng(seed)
    group = max(1, _DRAWS_AT_ONCE // samples)
    value = float(statistic(np.arange(samples)[None])[0])
    parts = [
        statistic(rng.integers(samples, size=(min(group, resamples - first), samples)))
        for first in range(0, resamples, group)
    ]
    drawn = np.concatenate(parts)
    drawn = drawn[np.isfinite(drawn)]
    if not len(drawn):
        return Estimate(value, value, value)
    low, high = np.percentile(drawn, [2.5, 97.5])
    return Estimate(value, float(low), float(high))


def softmax(logits: AnyFloats) -> AnyFloats:
    """Return class probabilities, (N, K)."""
    exp = np.exp(logits - logits.max(axis=-1, keepdims=True))
    probabilities: AnyFloats = exp / exp.sum(axis=-1, keepdims=True)
    return probabilities


def correct(logits: AnyFloats, labels: AnyInts) -> AnyFloats:
    """Return 1.0 where the top class is the label, (N,)."""
    _same_length(logits, labels)
    hits: AnyFloats = (logits.argmax(axis=1) == labels).astype(np.float64)
    return hits


def agrees(teacher: AnyFloats, student: AnyFloats) -> AnyFloats:
    """Return 1.0 where both have the same top class, (N,).

    Source: Stanton et al. 2021, arXiv:2106.05945.
    """
    return correct(student, teacher.argmax(axis=1))


def kl_divergence(teacher: AnyFloats, student: AnyFloats) -> AnyFloats:
    """Return KL(teacher || student) of the class distributions, (N,), in nats."""
    _same_shape(teacher, student)
    log_p, log_q = _log_softmax(teacher), _log_softmax(student)
    divergence: AnyFloats = (np.exp(log_p) * (log_p - log_q)).sum(axis=-1)
    return divergence


def expected_calibration_error(confidence: AnyFloats, hits: AnyFloats) -> AnyFloats:
    """Return the expected calibration error of each row.

    Args:
        confidence: probability of the top class, (..., N).
        hits: 1.0 where it was right, (..., N).

    Returns:
        (...,), between 0 and 1, over 15 equal bins.

    Source: Guo et al. 2017, arXiv:1706.04599, Eq. 3.
    """
    bins = np.minimum((confidence * ECE_BINS).astype(int), ECE_BINS - 1)
    gap = confidence - hits
    total = np.zeros(confidence.shape[:-1])
    for index in range(ECE_BINS):
        total += np.abs(np.where(bins == index, gap, 0.0).sum(axis=-1))
    error: AnyFloats = total / confidence.shape[-1]
    return error


def pearson(first: AnyFloats, second: AnyFloats) -> AnyFloats:
    """Return the correlation of each pair of maps, (N, W) -> (N,).

    A constant map correlates with nothing: 0.

    Raises:
        ShapeError: the maps differ in shape.
    """
    import edgedistill_kernels as kernels  # for maps only: a board's first prediction needs none

    _same_shape(first, second)
    return kernels.pearson(first, second)


def spearman(first: AnyFloats, second: AnyFloats) -> AnyFloats:
    """Return the rank correlation of each pair of maps, (N, W) -> (N,); ties share their rank.

    Raises:
        ShapeError: the maps differ in shape.
    """
    import edgedistill_kernels as kernels

    _same_shape(first, second)
    return kernels.spearman(first, second)


def top_sign_agreement(first: AnyFloats, second: AnyFloats) -> AnyFloats:
    """Return the share of the strongest tenth that both maps have, with the same sign, (N,).

    A window without effect has no sign, so zeros agree with nothing.

    Raises:
        ShapeError: the maps differ in shape.

    Source: Krishna et al. 2022, arXiv:2202.01602, sign agreement.
    """
    import edgedistill_kernels as kernels

    _same_shape(first, second)
    count = max(1, round(TOP_FRACTION * first.shape[1]))
    return kernels.top_sign_agreement(first, second, count=count)


def _log_softmax(logits: AnyFloats) -> AnyFloats:
    shifted = logits.astype(np.float64) - logits.max(axis=-1, keepdims=True)
    result: AnyFloats = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return result


def _same_length(first: NDArray[np.generic], second: NDArray[np.generic]) -> None:
    if len(first) != len(second):
        raise ShapeError(
            f"Got {len(first)} and {len(second)} samples to compare. Measure both on one set."
        )


def _same_shape(first: NDArray[np.generic], second: NDArray[np.generic]) -> None:
    _same_length(first, second)
    if first.shape != second.shape:
        raise ShapeError(
            f"Got arrays of shape {first.shape} and {second.shape} to compare. Measure both with "
            "the same classes and under one perturbation plan."
        )
