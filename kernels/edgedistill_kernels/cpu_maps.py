"""The kernels compiled for the CPU by Numba: maps over time, and how well two maps agree.

Arrays come checked, C-contiguous and of one type, float32 or float64 (maps that are compared:
float64, so that one compilation does); results are written into the last argument.
"""

from __future__ import annotations

import math

import numpy as np
from numba import prange
from numpy.typing import NDArray

from edgedistill_kernels.compiling import compiled, inlined, rounded, threads_for
from edgedistill_kernels.reference import Floats, Ints

_ROUNDING = 1e-24  # of a map's mean square: float64 noise around a constant map
_COUNTED = 256  # windows up to which ranks are counted; more are sorted
_DIGIT = 8  # bits of a key that one pass of the sort looks at
_BUCKETS = 1 << _DIGIT
_SIGN = np.int64(-(2**63))
_MAGNITUDE = np.int64(2**63 - 1)
_SUMMED = 1 / 4  # of the work that `threads_for` counts is adding an element up,
_RANKED = 4  # and this to find its rank


def timestep_map(scores: Floats, starts: Ints, width: int, out: Floats) -> None:
    """Compute the public `timestep_map`."""
    with threads_for(_SUMMED * (scores.size * width + out.size)):
        _timestep_map(scores, starts, width, out)


def pearson(first: Floats, second: Floats, out: Floats) -> None:
    """Compute the public `pearson`."""
    with threads_for(_SUMMED * first.size):
        _pearson(first, second, out)


def spearman(first: Floats, second: Floats, out: Floats) -> None:
    """Compute the public `spearman`."""
    with threads_for(_RANKED * first.size):
        _spearman(first, second, out)


def top_sign_agreement(first: Floats, second: Floats, count: int, out: Floats) -> None:
    """Compute the public `top_sign_agreement`."""
    with threads_for(_RANKED * first.size):
        _top_sign_agreement(first, second, count, out)


@compiled
def _timestep_map(scores: Floats, starts: Ints, width: int, out: Floats) -> None:
    for n in prange(len(scores)):
        _spread(scores[n], starts[n], width, out[n])


@compiled
def _pearson(first: Floats, second: Floats, out: Floats) -> None:
    for n in prange(len(first)):
        out[n] = _correlate(first[n], second[n])


@compiled
def _spearman(first: Floats, second: Floats, out: Floats) -> None:
    for n in prange(len(first)):
        out[n] = _correlate(_ranks(first[n]), _ranks(second[n]))


@compiled
def _top_sign_agreement(first: Floats, second: Floats, count: int, out: Floats) -> None:
    for n in prange(len(first)):
        out[n] = _count_shared(first[n], second[n], count) / count


@inlined
def _spread(scores: Floats, starts: Ints, width: int, out: Floats) -> None:
    total, cover = np.zeros(out.size), np.zeros(out.size)
    for w in range(scores.size):
        for t in range(starts[w], starts[w] + width):
            total[t] += scores[w]
            cover[t] += 1
    for t in range(out.size):
        out[t] = total[t] / max(cover[t], 1.0)


@inlined
def _correlate(first: Floats, second: Floats) -> float:
    """Return the correlation of two maps, (W,); 0 if one is constant or holds NaN."""
    mean_a, mean_b = 0.0, 0.0
    for i in range(first.size):
        mean_a += first[i]
        mean_b += second[i]
    mean_a /= first.size
    mean_b /= first.size
    level_a, level_b, spread_a, spread_b, shared = 0.0, 0.0, 0.0, 0.0, 0.0
    for i in range(first.size):
        x, y = np.float64(first[i]), np.float64(second[i])
        a, b = x - mean_a, y - mean_b
        level_a += x * x
        level_b += y * y
        spread_a += a * a
        spread_b += b * b
        shared += a * b
    if spread_a > _ROUNDING * level_a and spread_b > _ROUNDING * level_b:
        return shared / (math.sqrt(spread_a) * math.sqrt(spread_b))
    return 0.0


@inlined
def _ranks(values: Floats) -> Floats:
    """Return ranks from 0, (W,); equal values share theirs; NaN leaves none."""
    for i in range(values.size):
        if values[i] != values[i]:
            return np.full(values.size, np.nan)
    return _counted_ranks(values) if values.size <= _COUNTED else _sorted_ranks(values)


@inlined
def _counted_ranks(values: Floats) -> Floats:
    """Count for each value the smaller ones and half of the equal ones: short maps are quick."""
    ranks = np.empty(values.size)
    for i in range(values.size):
        value, twice = values[i], np.int32(0)
        for j in range(values.size):
            twice += np.int32(values[j] < value) + np.int32(values[j] <= value)
        ranks[i] = 0.5 * twice
    return ranks


@inlined
def _sorted_ranks(values: Floats) -> Floats:
    keys, order = _sort(_keys(values))
    ranks = np.empty(values.size)
    first = 0
    for last in range(1, values.size + 1):
        if last == values.size or keys[last] != keys[first]:  # a run of equal values ends
            for i in range(first, last):
                ranks[order[i]] = 0.5 * (first + last)
            first = last
    return ranks


@rounded
def _keys(values: Floats) -> NDArray[np.uint64]:
    """Return integers in the order of the values, (W,).

    A float64's bits are in order but for the sign: below zero all are turned over, else the sign.
    Not for `inlined`: it may take -0.0, which equals 0.0, for what it is.
    """
    exact = values.astype(np.float64)
    for i in range(exact.size):
        if exact[i] == 0:
            exact[i] = 0.0
    bits = exact.view(np.int64)
    keys = np.empty(bits.size, np.uint64)
    for i in range(bits.size):
        keys[i] = np.uint64(bits[i] ^ ((bits[i] >> np.int64(63)) | _SIGN))
    return keys


@inlined
def _sort(keys: NDArray[np.uint64]) -> tuple[NDArray[np.uint64], Ints]:
    """Return sorted keys and where they stood, (W,), by one stable pass for each digit."""
    order = np.arange(keys.size)
    next_keys, next_order = np.empty_like(keys), np.empty_like(order)
    mask = np.uint64(_BUCKETS - 1)
    for shift in range(0, 64, _DIGIT):
        place = np.zeros(_BUCKETS + 1, np.int64)
        for i in range(keys.size):
            place[((keys[i] >> np.uint64(shift)) & mask) + np.uint64(1)] += 1
        if place[((keys[0] >> np.uint64(shift)) & mask) + np.uint64(1)] == keys.size:
            continue  # all share this digit, as what was float32 does the low ones
        for b in range(_BUCKETS):
            place[b + 1] += place[b]
        for i in range(keys.size):
            digit = (keys[i] >> np.uint64(shift)) & mask
            next_keys[place[digit]], next_order[place[digit]] = keys[i], order[i]
            place[digit] += 1
        keys, next_keys = next_keys, keys
        order, next_order = next_order, order
    return keys, order


@inlined
def _count_shared(first: Floats, second: Floats, count: int) -> int:
    """Count the strongest of both maps that have the same sign."""
    a, b, same = _strongest(first, count), _strongest(second, count), 0
    for i in range(first.size):
        alike = (first[i] > 0 and second[i] > 0) or (first[i] < 0 and second[i] < 0)
        same += 1 if a[i] and b[i] and alike else 0
    return same


@inlined
def _strongest(values: Floats, count: int) -> NDArray[np.bool_]:
    """Mark the `count` largest magnitudes, (W,); of equal ones the first; NaN is the weakest.

    Magnitudes are compared by their bits, which have the same order, so that halving what is
    possible finds the least of them in 64 steps at most; each only counts, in full vectors.
    """
    bits = values.astype(np.float64).view(np.int64) & _MAGNITUDE
    for i in range(values.size):
        if values[i] != values[i]:
            bits[i] = -1
    low, high = np.int64(-2), bits.max()  # more than `count` are above `low`, fewer above `high`
    while high - low > 1:
        middle, above = low + ((high - low) >> np.int64(1)), np.int64(0)
        for i in range(bits.size):
            above += np.int64(bits[i] > middle)
        if above == count:
            found: NDArray[np.bool_] = bits > middle
            return found
        if above > count:
            low = middle
        else:
            high = middle
    mask: NDArray[np.bool_] = bits > high
    room = count - mask.sum()
    for i in range(bits.size):
        if bits[i] == high and room > 0:
            mask[i] = True
            room -= 1
    return mask
