"""Calibration of INT8: the range of every activation that 8 bits are spread over, read off series.

A range is read off a histogram of all values of a tensor, so memory does not grow with the number
of series. ONNX Runtime's calibrators keep every activation, and their entropy, with as many bins as
levels, returns the range of minmax; so the three methods are implemented here.

Histograms are cached in a folder, by a hash of the model and the series: all that a method reads
off the series is in them, so one file serves every method, every set of nodes that stay float, and
every search.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Literal

import numpy as np
import onnx
import onnxruntime

from edgedistill.errors import ConfigError, DataError, ModelError
from edgedistill.io import files
from edgedistill.io.arrays import Floats, Ints
from edgedistill.io.npz import read_npz
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
    """The distribution of a tensor's values."""

    counts: Ints  # (B,), of equal bins
    low: float
    high: float


Observe = Callable[[onnx.ModelProto, Floats], dict[str, Histogram]]


def observe(model: onnx.ModelProto, series: Floats) -> dict[str, Histogram]:
    """Return a histogram of every float tensor that a model computes from series, (N, C, T).

    Raises:
        ModelError: ONNX Runtime cannot run the model on these series, or a tensor is not finite.
    """
    run = open_model(model)
    limits: Ranges = {}
    for one in series:
        for name, value in _filled(run(one[None])):
            low, high = limits.get(name, (np.inf, -np.inf))
            limits[name] = (min(low, float(value.min())), max(high, float(value.max())))
    unbounded = [name for name, ends in limits.items() if not np.isfinite(ends).all()]
    if unbounded:
        raise ModelError(
            f"The value {unbounded[0]} of this model is infinite or NaN on a calibration series, "
            "and 8 bits have no range for that. Bound it in the model (Clip), or leave int8 out "
            "of the precisions."
        )
    counts = {name: np.zeros(BINS, dtype=np.int64) for name in limits}
    for one in series:
        for name, value in _filled(run(one[None])):
            counts[name] += np.histogram(value, bins=BINS, range=limits[name])[0]
    return {name: Histogram(counts[name], *limits[name]) for name in limits}


def cached_observer(folder: Path) -> Observe:
    """Return an `observe` that caches histograms in a folder.

    A damaged file is collected again. Files may be removed at any time.

    Args:
        folder: folder of the cache, created if need be; several runs may share it.
    """

    def observed(model: onnx.ModelProto, series: Floats) -> dict[str, Histogram]:
        path = folder / f"{key(model, series)}.npz"
        with suppress(DataError):
            return _read(path)
        found = observe(model, series)
        with files.whole_file(path) as partial:
            _write(found, partial)
        return found

    return observed


def ranges(histogram: dict[str, Histogram], method: Method) -> Ranges:
    """Return the range of every tensor.

    Args:
        histogram: histograms of `observe`, by tensor.
        method: "minmax" takes all values; "percentile" 99.9 %, so that an outlier does not coarsen
            the rest; "entropy" the range whose 256 levels preserve most of the distribution.

    Raises:
        ConfigError: no such method.
    """
    if method not in METHODS:
        raise ConfigError(
            f"There is no calibration method {method!r}. Choose from {', '.join(METHODS)}."
        )
    read = {"minmax": _all, "percentile": _most, "entropy": _entropy}[method]
    return {name: read(histogram) for name, histogram in histogram.items()}


def share_ranges(model: onnx.ModelProto, ranges: Ranges) -> Ranges:
    """Give the parts of each concatenation its range, or that of the ReLU behind it.

    A concatenation has one scale. Values that come with another are rounded to it once more, by a
    lookup a value. If they are rounded to it where they are computed, nothing is lost, and a ReLU
    behind the concatenation is done by the rounding too: below 0 there are no numbers. A part that
    something else reads too keeps its own range.

    Args:
        model: folded.
        ranges: ranges of its float values; not modified.
    """
    graph = model.graph
    readers: dict[str, list[onnx.NodeProto]] = {value.name: [] for value in graph.output}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    outputs = {value.name for value in graph.output}
    shared = dict(ranges)
    for node in reversed(graph.node):  # what is joined again takes the range of the last
        whole = node.output[0]
        if node.op_type != "Concat" or whole in outputs:
            continue
        behind = readers.get(whole, [])
        if [reader.op_type for reader in behind] == ["Relu"]:
            whole = behind[0].output[0]
        if whole in shared:
            alone = [name for name in node.input if len(readers[name]) == 1 and name not in outputs]
            shared |= {name: shared[whole] for name in alone if name in ranges}
    return shared


def key(model: onnx.ModelProto, series: Floats) -> str:
    """Hash all that histograms depend on: model, series, bins, ONNX Runtime."""
    return files.fingerprint(
        {
            "model": sha256(model.SerializeToString(deterministic=True)).hexdigest(),
            "series": sha256(np.ascontiguousarray(series).tobytes()).hexdigest(),
            "shape": list(series.shape),
            "bins": BINS,
            "onnxruntime": onnxruntime.__version__,
        }
    )


def _filled(values: dict[str, Floats]) -> list[tuple[str, Floats]]:
    """Return the tensors that have any value, with their names."""
    return [(name, value) for name, value in values.items() if value.size]


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


def _without_spike(counts: Ints, zero: int) -> Ints:
    """Return counts without the zeros of a ReLU: 8 bits hold zero as it is, whatever the range."""
    found: Ints = counts.copy()
    for place in {max(0, zero - 1), zero}:
        beside = np.delete(counts[max(0, place - 2) : place + 3], min(place, 2))
        found[place] = min(counts[place], beside.max())
    return found


def _divergence(counts: Ints, first: int, last: int) -> float:
    """Return the KL of bins `first` to `last`, the rest clipped into them, in 256 levels."""
    inside = counts[first:last].astype(np.float64)
    clipped = inside.copy()
    clipped[0] += counts[:first].sum()
    clipped[-1] += counts[last:].sum()
    level = np.arange(last - first) * LEVELS // (last - first)
    filled = inside > 0
    sums = np.bincount(level, inside, LEVELS)
    members = np.bincount(level, filled, LEVELS)
    spread = np.where(filled, sums[level] / np.maximum(members[level], 1), 0.0)
    p, q = clipped / clipped.sum(), spread / max(spread.sum(), 1.0)
    occurs = p > 0
    return float((p[occurs] * np.log(p[occurs] / np.maximum(q[occurs], 1e-12))).sum())


def _write(histograms: dict[str, Histogram], path: Path) -> None:
    with path.open("wb") as stream:
        np.savez(
            stream,
            names=np.array(list(histograms)),
            counts=np.array([histogram.counts for histogram in histograms.values()]),
            limits=np.array([(histogram.low, histogram.high) for histogram in histograms.values()]),
        )


def _read(path: Path) -> dict[str, Histogram]:
    arrays = read_npz(path)
    names, counts, limits = (arrays.get(name) for name in ("names", "counts", "limits"))
    if names is None or counts is None or limits is None:
        raise DataError(f"{path} holds no histograms. Remove it.")
    return {
        str(name): Histogram(count.astype(np.int64), float(low), float(high))
        for name, count, (low, high) in zip(names, counts, limits.tolist(), strict=True)
    }
