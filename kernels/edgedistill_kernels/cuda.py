"""The kernels compiled for NVIDIA GPUs by Numba: saliency and its gradients.

Arrays come checked and on the device, as Numba's own
or anything with `__cuda_array_interface__`. Results are written into the last arguments, in the
order of `stream`, an address as torch gives it; `empty` makes float64 scratch memory. Sums are
kept in float64. A block stages rows in shared memory, so that global memory is read and written
side by side.
"""

from __future__ import annotations

import math

import numpy as np

from edgedistill_kernels.cuda_compiling import (
    BLOCKS,
    THREADS,
    Device,
    Empty,
    compiled,
    cuda,
    float64,
    inlined,
    on,
)

_SHARED_DOUBLES = 6_000  # a block may use 48 KB on every GPU


def perturb(
    series: Device, starts: Device, patches: Device, out: Device, *, stream: int = 0
) -> None:
    """Compute the public `perturb`; a window is clipped to its series."""
    rows = patches.shape[0] * patches.shape[1] * patches.shape[2]
    _perturb[rows, THREADS, on(stream)](series, starts, patches, out)


def window_saliency(
    clean: Device, perturbed: Device, temperature: float, out: Device, *, stream: int = 0
) -> None:
    """Compute the public `window_saliency`; `out` is (N, W), or (N, W, K) for the terms."""
    samples, windows, classes = perturbed.shape
    rows = _rows(classes, tiles=1)
    grid = (samples, -(-windows // rows))
    _scores[grid, THREADS, on(stream), 8 * _doubles(classes, rows, tiles=1)](
        clean, perturbed, float(temperature), rows, _terms(out)
    )


def window_saliency_backward(
    grad: Device,
    clean: Device,
    perturbed: Device,
    temperature: float,
    grad_clean: Device,
    grad_perturbed: Device,
    *,
    stream: int = 0,
    empty: Empty = cuda.device_array,
) -> None:
    """Compute the public `window_saliency_backward`."""
    factors, terms = empty((2,)), _terms(grad)
    _leave[1, 1, on(stream)](factors)
    logits = (clean, perturbed, float(temperature))
    _launch_backward(terms, terms, factors, *logits, grad_clean, grad_perturbed, stream)


def normalize(
    saliency: Device,
    epsilon: float,
    out: Device,
    *,
    stream: int = 0,
    empty: Empty = cuda.device_array,
) -> None:
    """Compute the public `normalize`; `out` may be `saliency`."""
    flat = saliency.reshape(saliency.size)
    factors = _find_factors(flat, flat, epsilon, stream, empty)
    _combine[BLOCKS, THREADS, on(stream)](flat, flat, factors, 0.0, out.reshape(out.size))


def normalize_backward(
    grad: Device,
    saliency: Device,
    epsilon: float,
    out: Device,
    *,
    stream: int = 0,
    empty: Empty = cuda.device_array,
) -> None:
    """Compute the public `normalize_backward`."""
    flat, upstream = saliency.reshape(saliency.size), grad.reshape(grad.size)
    factors = _find_factors(upstream, flat, epsilon, stream, empty)
    _combine[BLOCKS, THREADS, on(stream)](upstream, flat, factors, 1.0, out.reshape(out.size))


def temporal_saliency(
    clean: Device,
    perturbed: Device,
    temperature: float,
    epsilon: float,
    out: Device,
    *,
    stream: int = 0,
    empty: Empty = cuda.device_array,
) -> None:
    """Compute the public `temporal_saliency`."""
    window_saliency(clean, perturbed, temperature, out, stream=stream)
    normalize(out, epsilon, out, stream=stream, empty=empty)


def temporal_saliency_backward(
    grad: Device,
    clean: Device,
    perturbed: Device,
    temperature: float,
    epsilon: float,
    grad_clean: Device,
    grad_perturbed: Device,
    *,
    stream: int = 0,
    empty: Empty = cuda.device_array,
) -> None:
    """Compute the public `temporal_saliency_backward`."""
    scores = empty(tuple(grad.shape))
    window_saliency(clean, perturbed, temperature, scores, stream=stream)
    flat, upstream = scores.reshape(scores.size), grad.reshape(grad.size)
    factors = _find_factors(upstream, flat, epsilon, stream, empty)
    logits = (clean, perturbed, float(temperature))
    _launch_backward(
        *(_terms(grad), _terms(scores), factors, *logits, grad_clean, grad_perturbed, stream)
    )


def _terms(scores: Device) -> Device:
    """Return scores as (N, W, K), or (N, W, 1) if they are sums."""
    return scores if len(scores.shape) == 3 else scores.reshape(*scores.shape, 1)


def _rows(classes: int, tiles: int) -> int:
    """Return the number of rows of logits that a block stages at once."""
    rows = (_SHARED_DOUBLES - 3 * classes) // (tiles * (classes | 1))
    if rows < 1:
        raise ValueError(
            f"{classes} classes do not fit into a GPU block's shared memory. Use another backend."
        )
    return min(THREADS, rows)


def _doubles(classes: int, rows: int, tiles: int) -> int:
    return 3 * classes + tiles * rows * (classes | 1)


def _launch_backward(
    grad: Device,
    scores: Device,
    factors: Device,
    clean: Device,
    perturbed: Device,
    temperature: float,
    grad_clean: Device,
    grad_perturbed: Device,
    stream: int,
) -> None:
    samples, _, classes = perturbed.shape
    rows = _rows(classes, tiles=2)
    _backward[samples, THREADS, on(stream), 8 * _doubles(classes, rows, tiles=2)](
        *(grad, scores, factors, clean, perturbed, temperature, rows, grad_clean, grad_perturbed)
    )


def _find_factors(
    grad: Device, scores: Device, epsilon: float, stream: int, empty: Empty
) -> Device:
    """Return the factor of scores, and the pull of each positive one on the mean, (2,)."""
    partial, factors = empty((BLOCKS, 3)), empty((2,))
    _tally[BLOCKS, THREADS, on(stream)](grad, scores, partial)
    _factors[1, 1, on(stream)](partial, float(epsilon), factors)
    return factors


@inlined
def sum_of_block(value: float, buffer: Device) -> float:
    """Return the sum of all threads' values, in a fixed order; `buffer` is (THREADS,)."""
    thread = cuda.threadIdx.x
    buffer[thread] = value
    cuda.syncthreads()
    half = cuda.blockDim.x // 2
    while half:
        if thread < half:
            buffer[thread] += buffer[thread + half]
        cuda.syncthreads()
        half //= 2
    total = buffer[0]
    cuda.syncthreads()  # before the next sum writes there
    return float(total)


@compiled
def _perturb(series: Device, starts: Device, patches: Device, out: Device) -> None:
    """A block a row of T steps: side by side in memory, and one division a row."""
    channels, width = patches.shape[2], patches.shape[3]
    copy, c = cuda.blockIdx.x // channels, cuda.blockIdx.x % channels
    n, w = copy // patches.shape[1], copy % patches.shape[1]
    start = starts[n, w]
    for t in range(cuda.threadIdx.x, series.shape[2], cuda.blockDim.x):
        if start <= t < start + width:
            out[n, w, c, t] = patches[n, w, c, t - start]
        else:
            out[n, w, c, t] = series[n, c, t]


@inlined
def _softmax(logits: Device, n: int, temperature: float, log_p: Device, p: Device) -> None:
    """Write log-probabilities and probabilities of row n, (K,), by all threads of the block."""
    classes = logits.shape[1]
    for k in range(cuda.threadIdx.x, classes, cuda.blockDim.x):
        log_p[k] = logits[n, k] / temperature
    cuda.syncthreads()
    log_sum = _log_sum(log_p, 0, classes)
    cuda.syncthreads()
    for k in range(cuda.threadIdx.x, classes, cuda.blockDim.x):
        log_p[k] -= log_sum
        p[k] = math.exp(log_p[k])
    cuda.syncthreads()


@inlined
def _log_sum(logits: Device, first: int, classes: int) -> float:
    top = logits[first]
    for k in range(classes):
        top = max(top, logits[first + k])
    total = 0.0
    for k in range(classes):
        total += math.exp(logits[first + k] - top)
    return float(top + math.log(total))


@inlined
def _load(logits: Device, n: int, first: int, rows: int, temperature: float, tile: Device) -> None:
    """Stage rows of logits in shared memory; an odd pitch keeps threads off each other's banks."""
    classes = logits.shape[2]
    for i in range(cuda.threadIdx.x, rows * classes, cuda.blockDim.x):
        r, k = i // classes, i % classes
        tile[r * (classes | 1) + k] = logits[n, first + r, k] / temperature
    cuda.syncthreads()


@inlined
def _store(tile: Device, n: int, first: int, rows: int, out: Device) -> None:
    classes = out.shape[2]
    cuda.syncthreads()
    for i in range(cuda.threadIdx.x, rows * classes, cuda.blockDim.x):
        r, k = i // classes, i % classes
        out[n, first + r, k] = tile[r * (classes | 1) + k]


@compiled
def _scores(clean: Device, perturbed: Device, temperature: float, rows: int, out: Device) -> None:
    """A block some windows of a sample, a thread a window."""
    n, first, r = cuda.blockIdx.x, cuda.blockIdx.y * rows, cuda.threadIdx.x
    windows, classes = perturbed.shape[1], perturbed.shape[2]
    shared = cuda.shared.array(0, float64)
    log_p, p, tile = shared[:classes], shared[classes : 2 * classes], shared[2 * classes :]
    _softmax(clean, n, temperature, log_p, p)
    rows = min(rows, windows - first)
    _load(perturbed, n, first, rows, temperature, tile)
    if r < rows:
        base, score = r * (classes | 1), 0.0
        log_sum = _log_sum(tile, base, classes)
        for k in range(classes):
            term = p[k] * (log_p[k] - tile[base + k] + log_sum) * temperature * temperature
            tile[base + k] = term
            score += term
        if out.shape[2] != classes:
            out[n, first + r, 0] = score
    if out.shape[2] == classes:
        _store(tile, n, first, rows, out)


@inlined
def _push(
    upstream: tuple[Device, Device, Device],
    log_p: Device,
    p: Device,
    temperature: float,
    base: int,
    tile: Device,
    weights: Device,
) -> None:
    """Turn one window's logits into their gradient, and its weights into the clean one's share."""
    grad, scores, factors = upstream
    classes, last, total = p.size, grad.size - 1, 0.0
    log_sum = _log_sum(tile, base, classes)
    for k in range(classes):
        at = min(k, last)
        pulled = factors[1] if scores[at] > 0 else 0.0
        weighted = (grad[at] * factors[0] - pulled) * p[k]
        weights[base + k] = weighted
        total += weighted
    for k in range(classes):
        log_q, weighted = tile[base + k] - log_sum, weights[base + k]
        tile[base + k] = temperature * (math.exp(log_q) * total - weighted)
        weights[base + k] = weighted * (1 + log_p[k] - log_q)


@compiled
def _backward(
    grad: Device,
    scores: Device,
    factors: Device,
    clean: Device,
    perturbed: Device,
    temperature: float,
    rows: int,
    grad_clean: Device,
    grad_perturbed: Device,
) -> None:
    """A block a sample, a thread a window; each class's share of the clean gradient is summed."""
    n, thread, step = cuda.blockIdx.x, cuda.threadIdx.x, cuda.blockDim.x
    windows, classes = perturbed.shape[1], perturbed.shape[2]
    pitch = classes | 1
    shared = cuda.shared.array(0, float64)
    log_p, p = shared[:classes], shared[classes : 2 * classes]
    to_log_p, tile = shared[2 * classes : 3 * classes], shared[3 * classes :]
    weights = tile[rows * pitch :]
    for k in range(thread, classes, step):
        to_log_p[k] = 0.0
    _softmax(clean, n, temperature, log_p, p)
    for first in range(0, windows, rows):
        here = min(rows, windows - first)
        _load(perturbed, n, first, here, temperature, tile)
        if thread < here:
            row = (grad[n, first + thread], scores[n, first + thread], factors)
            _push(row, log_p, p, temperature, thread * pitch, tile, weights)
        _store(tile, n, first, here, grad_perturbed)
        for k in range(thread, classes, step):
            for r in range(here):
                to_log_p[k] += weights[r * pitch + k]
        cuda.syncthreads()
    whole = 0.0
    for k in range(classes):
        whole += to_log_p[k]
    for k in range(thread, classes, step):
        grad_clean[n, k] = temperature * (to_log_p[k] - p[k] * whole)


@compiled
def _tally(grad: Device, scores: Device, partial: Device) -> None:
    """Sum positive scores, their number, and scores times gradients: three sums a block."""
    shared = cuda.shared.array(THREADS, float64)
    total, count, dot = 0.0, 0.0, 0.0
    for i in range(cuda.grid(1), scores.size, cuda.gridsize(1)):
        if scores[i] > 0:
            total += scores[i]
            count += 1.0
        dot += np.float64(scores[i]) * grad[i]
    block = cuda.blockIdx.x
    partial[block, 0] = sum_of_block(total, shared)
    partial[block, 1] = sum_of_block(count, shared)
    partial[block, 2] = sum_of_block(dot, shared)


@compiled
def _factors(partial: Device, epsilon: float, factors: Device) -> None:
    total, count, dot = 0.0, 0.0, 0.0
    for block in range(partial.shape[0]):
        total += partial[block, 0]
        count += partial[block, 1]
        dot += partial[block, 2]
    count = max(count, 1.0)
    factors[0] = 1 / (total / count + epsilon)
    factors[1] = dot * factors[0] * factors[0] / count


@compiled
def _leave(factors: Device) -> None:
    """Write the factors that leave a gradient as it is."""
    factors[0], factors[1] = 1.0, 0.0


@compiled
def _combine(grad: Device, scores: Device, factors: Device, pulls: float, out: Device) -> None:
    for i in range(cuda.grid(1), scores.size, cuda.gridsize(1)):
        pulled = pulls * factors[1] if scores[i] > 0 else 0.0
        out[i] = grad[i] * factors[0] - pulled
