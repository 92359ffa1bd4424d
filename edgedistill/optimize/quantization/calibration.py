"""Which range of every activation 8 bits are spread over, read off real series.

A range is found from a histogram of all that a tensor held, so memory does not grow with the number
of series. ONNX Runtime's calibrators keep every activation, and their entropy, with as many bins as
levels, returns the range of minmax; so the three ways stand here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import onnx
from numpy.typing import NDArray

from edgedistill.errors import ConfigError
from edgedistill.io.arrays import Floats
from edgedistill.optimize.execution import open_model

Method = Literal["minmax", "percentile", "entropy"]
Ranges = dict[str, tuple[float, float]]  # lowest and highest value of a tensor, by its name
METHODS: tuple[Method, ...] = ("minmax", "percentile", "entropy")

LEVELS = 256
BINS = 8 * LEVELS  # of a histogram
_CLIPPED = 0.001  # share of all values beyond the range of "percentile", both ends together
_STEP = LEVELS // 8  # bins between the ranges that "entropy" tries


@dataclass(frozen=True, slots=True)
class Histogram:
    """How often a tensor held which values."""

    counts: NDArray[np.int64]  # (B,), of equal bins
    low: float
    high: float


Observe = Callable[[onnx.ModelProto, Floats], dict[str, Histogram]]


def observe(model: onnx.ModelProto, series: Floats) -> dict[str, Histogram]:
    """Return a histogram of every float tensor that a model computes from series, (N, C, T).

    Raises:
        ModelError: ONNX Runtime cannot run the model on these series.
    """
    run = open_model(model)
    limits: Ranges = {}
    for one in series:
        for name, value in run(one[None]).items():
            low, high = limits.get(name, (np.inf, -np.inf))
            limits[name] = (min(low, float(value.min())), max(high, float(value.max())))
    counts = {name: np.zeros(BINS, dtype=np.int64) for name in limits}
    for one in series:
        for name, value in run(one[None]).items():
            counts[name] += np.histogram(value, bins=BINS, range=limits[name])[0]
    return {name: Histogram(counts[name], *limits[name]) for name in limits}


def ranges(histogram: dict[str, Histogram], method: Method) -> Ranges:
    """Return the range of every tensor.

    Args:
        histogram: what `observe` saw.
        method: "minmax" takes all of it; "percentile" 99.9 %, so that an outlier does not coarsen
            the rest; "entropy" the range whose 256 levels tell most of the distribution.

    Raises:
        ConfigError: no such method.
    """
    if method not in METHODS:
        raise ConfigError(
            f"There is no calibration method {method!r}. Choose from {', '.join(METHODS)}."
        )
    read = {"minmax": _all, "percentile": _most, "entropy": _entropy}[method]
    return {name: read(histogram) for name, histogram in histogram.items()}


def _all(histogram: Histogram) -> tuple[float, float]:
    return histogram.low, histogram.high


def _most(histogram: Histogram) -> tuple[float, float]:
    below = np.cumsum(histogram.counts) / histogram.counts.sum()
    edges = np.linspace(histogram.low, histogram.high, BINS + 1)
    first = int(np.searchsorted(below, _CLIPPED / 2, side="right"))
    last = int(np.searchsorted(below, 1 - _CLIPPED / 2))
    return float(edges[first]), float(edges[last + 1])


def _entropy(histogram: Histogram) -> tuple[float, float]:
    """Return the range with the least KL(values || values in 256 levels).

    First the upper end comes in, then the lower one, each at most to zero: quantization puts zero
    into every range anyway.

    Source: Migacz, "8-bit inference with TensorRT", GTC 2017; there symmetric and of 128 levels.
    """
    edges = np.linspace(histogram.low, histogram.high, BINS + 1)
    zero = int(np.clip(np.searchsorted(edges, 0.0), 0, BINS))
    counts = _without_spike(histogram.counts, min(zero, BINS - 1))
    lasts = range(BINS, max(zero, LEVELS) - 1, -_STEP)
    last = min(lasts, key=lambda end: _divergence(counts, 0, end))
    firsts = range(0, min(zero, last - LEVELS) + 1, _STEP)
    first = min(firsts, key=lambda begin: _divergence(counts, begin, last))
    return float(edges[first]), float(edges[last])


def _without_spike(counts: NDArray[np.int64], zero: int) -> NDArray[np.int64]:
    """Return counts without the zeros of a ReLU: 8 bits hold zero as it is, whatever the range."""
    found: NDArray[np.int64] = counts.copy()
    for place in {max(0, zero - 1), zero}:
        beside = np.delete(counts[max(0, place - 2) : place + 3], min(place, 2))
        found[place] = min(counts[place], beside.max())
    return found


def _divergence(counts: NDArray[np.int64], first: int, last: int) -> float:
    """Return what bins `first` to `last`, with the rest clipped into them, lose in 256 levels."""
    inside = counts[first:last].astype(np.float64)
    told = inside.copy()
    told[0] += counts[:first].sum()
    told[-1] += counts[last:].sum()
    level = np.arange(last - first) * LEVELS // (last - first)
    filled = inside > 0
    sums = np.bincount(level, inside, LEVELS)
    members = np.bincount(level, filled, LEVELS)
    spread = np.where(filled, sums[level] / np.maximum(members[level], 1), 0.0)
    p, q = told / told.sum(), spread / max(spread.sum(), 1.0)
    seen = p > 0
    return float((p[seen] * np.log(p[seen] / np.maximum(q[seen], 1e-12))).sum())
