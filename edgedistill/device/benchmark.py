"""Latency of one series, and throughput in series a second."""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from edgedistill.errors import ShapeError, UsageError
from edgedistill.evaluation.metrics import Estimate
from edgedistill.io.arrays import Floats
from edgedistill.saliency.classifier import Classifier

WARMUP = 20  # calls before the clock counts: caches, lazy allocations, clock frequency
RUNS = 200
ROUNDS = 15
BATCHES: Final = (1, 4, 16, 64)  # series in one call, of which throughput takes the best
StopReason: TypeAlias = Literal["runs", "interval", "budget"]  # why no more calls were timed
_WARM_S = 0.5  # governors raise the clock within tenths of a second
_FEWEST = 20  # timed calls, however slow: below, a p95 is the slowest call
_BATCH_S = 0.2  # of calls for each batch
_SLOWEST_CALL_S = 2.0  # a batch that takes longer is not tried
_BLOCK_MS = 20  # of calls of one model, before it is another one's turn
_MOST_CALLS = 100
_Z95 = 1.959964  # standard normal quantile of a two-sided 95 % interval


@dataclass(frozen=True, slots=True, kw_only=True)
class AutoRuns:
    """Time calls until the p95's interval is narrow enough, or the time is up."""

    width: float = 0.05  # of the p95's 95 % interval, over the p95
    budget_s: float = 10.0  # of warm-up and timed calls

    def __post_init__(self) -> None:
        if not (self.width > 0 and self.budget_s > 0):
            raise UsageError(
                f"width is {self.width} and budget_s {self.budget_s}; give more than 0 for both."
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency:
    """Time of a call with one series, with 95 % intervals from order statistics."""

    p50_ms: Estimate
    p95_ms: Estimate
    p99_ms: Estimate
    runs: int
    series_per_s: float  # one after the other, from the mean
    ended: StopReason = "runs"  # fixed number; narrow interval; time was up

    @property
    def p95_width(self) -> float:
        """Width of the p95's interval over the p95."""
        return (self.p95_ms.high - self.p95_ms.low) / self.p95_ms.value


def measure(
    classifier: Classifier, sample: Floats, *, warmup: int = WARMUP, runs: int | AutoRuns = RUNS
) -> Latency:
    """Time a model on one series.

    Args:
        classifier: the loaded model.
        sample: one preprocessed series, (1, C, T).
        warmup: calls that are not counted.
        runs: calls that are, or what is enough; then more calls may warm up.

    Raises:
        ShapeError: sample is not one series.
        UsageError: runs is below 1 or warmup below 0.
    """
    _check_sample(sample)
    if isinstance(runs, AutoRuns):
        elapsed_ms, ended = _time_until_precise(classifier, sample, warmup, runs)
    else:
        elapsed_ms, ended = _time_fixed(classifier, sample, warmup, runs), "runs"
    return Latency(
        p50_ms=quantile(elapsed_ms, 0.5),
        p95_ms=quantile(elapsed_ms, 0.95),
        p99_ms=quantile(elapsed_ms, 0.99),
        runs=len(elapsed_ms),
        series_per_s=1e3 / float(elapsed_ms.mean()),
        ended=ended,
    )


def throughput(classifier: Classifier, sample: Floats) -> dict[int, float]:
    """Return the throughput in series a second, by the number of series in one call.

    Args:
        classifier: the loaded model.
        sample: one preprocessed series, (1, C, T); a batch is made of copies.

    Raises:
        ShapeError: sample is not one series.
    """
    _check_sample(sample)
    rates: dict[int, float] = {}
    for batch in BATCHES:
        if rates and batch / max(rates.values()) > _SLOWEST_CALL_S:
            break
        series = np.repeat(sample, batch, axis=0)
        classifier.logits(series)
        begin, calls = time.perf_counter(), 0
        while calls == 0 or time.perf_counter() - begin < _BATCH_S:
            classifier.logits(series)
            calls += 1
        rates[batch] = calls * batch / (time.perf_counter() - begin)
    return rates


def measure_interleaved(
    classifiers: Sequence[Classifier], sample: Floats, *, rounds: int = ROUNDS
) -> list[Estimate]:
    """Time models in alternation, so that background load affects all equally.

    In every round each model has a block of calls, in another order. The median of a block is
    one value: calls that follow each other are alike, blocks that lie apart are hardly.

    Args:
        classifiers: the loaded models.
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
    calls = [_calls_in_a_block(classifier, sample) for classifier in classifiers]
    order = np.random.default_rng(0)
    medians = np.empty((len(classifiers), rounds))
    with _without_collection():
        for turn in range(rounds):
            for index in order.permutation(len(classifiers)):
                classifiers[index].logits(sample)  # the block before has left the caches to itself
                block = _timed(classifiers[index], sample, calls[index])
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


def _time_fixed(
    classifier: Classifier, sample: Floats, warmup: int, runs: int
) -> NDArray[np.float64]:
    """Return the time of each call, (runs,), in ms, after a warm-up."""
    if runs < 1 or warmup < 0:
        raise UsageError(f"runs is {runs} and warmup {warmup}; give at least 1 and 0.")
    for _ in range(warmup):
        classifier.logits(sample)
    with _without_collection():
        return _timed(classifier, sample, runs)


def _time_until_precise(
    classifier: Classifier, sample: Floats, warmup: int, auto: AutoRuns
) -> tuple[NDArray[np.float64], StopReason]:
    """Return the time of each call, in ms, and why there are no more.

    The interval is looked at when the calls have doubled, not after each of them: who stops
    at the first narrow interval of many stops by luck.
    """
    begin = time.perf_counter()
    calls = 0
    while (passed := time.perf_counter() - begin) < auto.budget_s / 2 and (
        calls < warmup or passed < _WARM_S
    ):
        classifier.logits(sample)
        calls += 1
    elapsed_ms: list[float] = []
    with _without_collection():
        while True:
            for _ in range(max(RUNS, len(elapsed_ms))):
                if _is_up(begin, auto, elapsed_ms):
                    return np.array(elapsed_ms), "budget"
                elapsed_ms.append(float(_timed(classifier, sample, 1)[0]))
            p95 = quantile(np.array(elapsed_ms), 0.95)
            if p95.high - p95.low <= auto.width * p95.value:
                return np.array(elapsed_ms), "interval"


def _is_up(begin: float, auto: AutoRuns, elapsed_ms: Sequence[float]) -> bool:
    passed = time.perf_counter() - begin
    return len(elapsed_ms) >= _FEWEST and passed > auto.budget_s


def _timed(classifier: Classifier, sample: Floats, runs: int) -> NDArray[np.float64]:
    """Return the time of each call, (runs,), in ms."""
    elapsed_ms = np.empty(runs)
    for run in range(runs):
        begin = time.perf_counter_ns()
        classifier.logits(sample)
        elapsed_ms[run] = (time.perf_counter_ns() - begin) / 1e6
    return elapsed_ms


def _calls_in_a_block(classifier: Classifier, sample: Floats) -> int:
    """Warm a model up, and return how many of its calls fill a block."""
    for _ in range(WARMUP // 4):
        classifier.logits(sample)
    call_ms = float(np.median(_timed(classifier, sample, 3)))
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
