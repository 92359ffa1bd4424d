"""How long one series takes: the only place that reads the clock."""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgedistill.device.runtime import Runtime
from edgedistill.errors import ShapeError, UsageError
from edgedistill.metrics import Estimate
from edgedistill.perturbation import Floats

WARMUP = 20  # calls before the clock counts: caches, lazy allocations, clock frequency
RUNS = 200
ROUNDS = 15
_BLOCK_MS = 20  # of calls of one model, before it is another one's turn
_MOST_CALLS = 100
_Z95 = 1.959964  # standard normal quantile of a two-sided 95 % interval


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency:
    """Time of a call with one series, with 95 % intervals from order statistics."""

    p50_ms: Estimate
    p95_ms: Estimate
    p99_ms: Estimate
    runs: int
    series_per_s: float  # one after the other, from the mean


def measure(runtime: Runtime, sample: Floats, *, warmup: int = WARMUP, runs: int = RUNS) -> Latency:
    """Time a model on one series.

    Args:
        runtime: the loaded model.
        sample: one preprocessed series, (1, C, T).
        warmup: calls that are not counted.
        runs: calls that are.

    Raises:
        ShapeError: sample is not one series.
        UsageError: runs is below 1 or warmup below 0.
    """
    _check_sample(sample)
    if runs < 1 or warmup < 0:
        raise UsageError(f"runs is {runs} and warmup {warmup}; give at least 1 and 0.")
    for _ in range(warmup):
        runtime.logits(sample)
    with _without_collection():
        elapsed_ms = _timed(runtime, sample, runs)
    return Latency(
        p50_ms=quantile(elapsed_ms, 0.5),
        p95_ms=quantile(elapsed_ms, 0.95),
        p99_ms=quantile(elapsed_ms, 0.99),
        runs=runs,
        series_per_s=1e3 / float(elapsed_ms.mean()),
    )


def measure_together(
    runtimes: Sequence[Runtime], sample: Floats, *, rounds: int = ROUNDS
) -> list[Estimate]:
    """Time models on one series in turns, so that what else the machine does meets them all.

    In every round each model has a block of calls, in another order. The median of a block is
    one value: calls that follow each other are alike, blocks that lie apart are hardly.

    Args:
        runtimes: the loaded models.
        sample: one preprocessed series, (1, C, T).
        rounds: blocks of each model.

    Returns:
        The median block of each, in ms.

    Raises:
        ShapeError: sample is not one series.
        UsageError: rounds is below 1.
    """
    _check_sample(sample)
    if rounds < 1:
        raise UsageError(f"rounds is {rounds}; give at least 1.")
    calls = [_calls_in_a_block(runtime, sample) for runtime in runtimes]
    order = np.random.default_rng(0)
    medians = np.empty((len(runtimes), rounds))
    with _without_collection():
        for turn in range(rounds):
            for index in order.permutation(len(runtimes)):
                runtimes[index].logits(sample)  # the block before has left the caches to itself
                block = _timed(runtimes[index], sample, calls[index])
                medians[index, turn] = np.median(block)
    return [quantile(row, 0.5) for row in medians]


def quantile(values: NDArray[np.float64], share: float) -> Estimate:
    """Return a quantile, (N,) -> one, with its distribution-free 95 % interval.

    The ends are the order statistics that the binomial distribution names, in its normal
    approximation. With few values the upper end of a high quantile is the largest value,
    and the interval covers less than 95 %.

    Source: Conover 1999, Practical Nonparametric Statistics, section 3.2.

    >>> quantile(np.arange(1.0, 1001.0), 0.5)
    Estimate(value=500.5, low=470.0, high=531.0)
    """
    ordered = np.sort(values)
    count = len(ordered)
    spread = _Z95 * math.sqrt(count * share * (1 - share))
    low = max(1, math.ceil(count * share - spread))  # ranks, from 1
    high = min(count, math.ceil(count * share + spread))
    return Estimate(
        float(np.quantile(ordered, share)), float(ordered[low - 1]), float(ordered[high - 1])
    )


def _check_sample(sample: Floats) -> None:
    if sample.ndim != 3 or len(sample) != 1:
        raise ShapeError(f"Got a sample of shape {sample.shape}; time one series, (1, C, T).")


def _timed(runtime: Runtime, sample: Floats, runs: int) -> NDArray[np.float64]:
    """Return the time of each call, (runs,), in ms."""
    elapsed_ms = np.empty(runs)
    for run in range(runs):
        begin = time.perf_counter_ns()
        runtime.logits(sample)
        elapsed_ms[run] = (time.perf_counter_ns() - begin) / 1e6
    return elapsed_ms


def _calls_in_a_block(runtime: Runtime, sample: Floats) -> int:
    """Warm a model up, and return how many of its calls fill a block."""
    for _ in range(WARMUP // 4):
        runtime.logits(sample)
    call_ms = float(np.median(_timed(runtime, sample, 3)))
    return int(np.clip(_BLOCK_MS / call_ms, 1, _MOST_CALLS))


@contextmanager
def _without_collection() -> Iterator[None]:
    """Keep Python's garbage collector out of the timed calls."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
