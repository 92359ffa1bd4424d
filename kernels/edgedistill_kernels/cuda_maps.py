"""The kernels compiled for NVIDIA GPUs by Numba: maps over time, and how well two agree.

See `edgedistill_kernels.cuda` for what they have in common.
"""

from __future__ import annotations

import math

import numpy as np

from edgedistill_kernels.cuda import sum_of_block
from edgedistill_kernels.cuda_compiling import (
    THREADS,
    Device,
    Empty,
    compiled,
    cuda,
    float64,
    on,
)

_ROUNDING = 1e-24  # of a map's mean square: float64 noise around a constant map


def timestep_map(
    scores: Device, starts: Device, width: int, out: Device, *, stream: int = 0
) -> None:
    """Compute the public `timestep_map`; a window is clipped to its series."""
    grid = (out.shape[0], -(-out.shape[1] // THREADS))
    _timestep_map[grid, THREADS, on(stream)](scores, starts, width, out)


def pearson(first: Device, second: Device, out: Device, *, stream: int = 0) -> None:
    """Compute the public `pearson`."""
    _pearson[first.shape[0], THREADS, on(stream)](first, second, out)


def spearman(
    first: Device,
    second: Device,
    out: Device,
    *,
    stream: int = 0,
    empty: Empty = cuda.device_array,
) -> None:
    """Compute the public `spearman`."""
    shape, grid = tuple(first.shape), first.shape[0]
    ranks, others = empty(shape), empty(shape)
    _ranks[grid, THREADS, on(stream)](first, ranks)
    _ranks[grid, THREADS, on(stream)](second, others)
    pearson(ranks, others, out, stream=stream)


def top_sign_agreement(
    first: Device, second: Device, count: int, out: Device, *, stream: int = 0
) -> None:
    """Compute the public `top_sign_agreement`."""
    _top_sign_agreement[first.shape[0], THREADS, on(stream)](first, second, count, out)


@compiled
def _timestep_map(scores: Device, starts: Device, width: int, out: Device) -> None:
    """A thread a time step: it checks every window for covering it."""
    n, t = cuda.blockIdx.x, cuda.blockIdx.y * cuda.blockDim.x + cuda.threadIdx.x
    if t < out.shape[1]:
        total, cover = 0.0, 0.0
        for w in range(scores.shape[1]):
            if starts[n, w] <= t < starts[n, w] + width:
                total += scores[n, w]
                cover += 1.0
        out[n, t] = total / max(cover, 1.0)


@compiled
def _pearson(first: Device, second: Device, out: Device) -> None:
    """A block a pair of maps."""
    shared = cuda.shared.array(THREADS, float64)
    n, windows = cuda.blockIdx.x, first.shape[1]
    sum_a, sum_b, level_a, level_b = 0.0, 0.0, 0.0, 0.0
    for i in range(cuda.threadIdx.x, windows, cuda.blockDim.x):
        x, y = np.float64(first[n, i]), np.float64(second[n, i])
        sum_a += x
        sum_b += y
        level_a += x * x
        level_b += y * y
    mean_a = sum_of_block(sum_a, shared) / windows
    mean_b = sum_of_block(sum_b, shared) / windows
    level_a = sum_of_block(level_a, shared)
    level_b = sum_of_block(level_b, shared)
    spread_a, spread_b, both = 0.0, 0.0, 0.0
    for i in range(cuda.threadIdx.x, windows, cuda.blockDim.x):
        a, b = first[n, i] - mean_a, second[n, i] - mean_b
        spread_a += a * a
        spread_b += b * b
        both += a * b
    spread_a = sum_of_block(spread_a, shared)
    spread_b = sum_of_block(spread_b, shared)
    both = sum_of_block(both, shared)
    if cuda.threadIdx.x == 0:
        if spread_a > _ROUNDING * level_a and spread_b > _ROUNDING * level_b:
            out[n] = both / (math.sqrt(spread_a) * math.sqrt(spread_b))
        else:
            out[n] = 0.0


@compiled
def _ranks(maps: Device, ranks: Device) -> None:
    """A block a map: each value counts the smaller ones and half of the equal ones; NaN ends it."""
    n = cuda.blockIdx.x
    for i in range(cuda.threadIdx.x, maps.shape[1], cuda.blockDim.x):
        value, rank = maps[n, i], 0.0
        for j in range(maps.shape[1]):
            other = maps[n, j]
            if other < value:
                rank += 1.0
            elif other == value:
                rank += 0.5
            elif other != other:
                rank = math.nan
        ranks[n, i] = rank


@compiled
def _top_sign_agreement(first: Device, second: Device, count: int, out: Device) -> None:
    """A block a pair of maps: each window counts how many are stronger, in both maps."""
    shared = cuda.shared.array(THREADS, float64)
    n, same = cuda.blockIdx.x, 0.0
    for i in range(cuda.threadIdx.x, first.shape[1], cuda.blockDim.x):
        x, y = first[n, i], second[n, i]
        if (x > 0 and y > 0) or (x < 0 and y < 0):
            before_x, before_y = 0, 0
            for j in range(first.shape[1]):
                a, b = abs(first[n, j]), abs(second[n, j])
                before_x += 1 if a > abs(x) or (a == abs(x) and j < i) else 0
                before_y += 1 if b > abs(y) or (b == abs(y) and j < i) else 0
            same += 1.0 if before_x < count and before_y < count else 0.0
    same = sum_of_block(same, shared)
    if cuda.threadIdx.x == 0:
        out[n] = same / count
