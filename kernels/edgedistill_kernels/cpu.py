"""The kernels compiled for the CPU by Numba: saliency and its gradients.

Arrays come checked, C-contiguous and of one type, float32 or float64; results are written into
the last arguments. Sums are kept in float64. Windows are worked on `_LANES` at a time, side by
side in memory, so that the compiler's vectors are full however few classes there are.
"""

from __future__ import annotations

import math

import numpy as np
from numba import prange

from edgedistill_kernels.compiling import compiled, inlined, rounded, threads_for
from edgedistill_kernels.reference import Floats, Ints

_Workspace = tuple[Floats, Floats, Floats, Floats]
_Upstream = tuple[Floats, Floats, float, float]  # gradient, scores, scale, pull
_Logits = tuple[Floats, Floats, float]  # clean, perturbed, temperature
_Outs = tuple[Floats, Floats]  # gradients of clean and perturbed
_COPIED = 1 / 16  # of the work that `threads_for` counts is the copying of an element,
_SUMMED = 1 / 4  # and this to sum or scale one
_LANES = 32
_SHARES = 16  # of a batch, spread over the threads; fixed, so that sums do not depend on them
_LOG2_E = 1 / math.log(2)
_LN2_HIGH = 0.6931471803691238  # ln 2 in two parts, the first with zeros at its end: exact products
_LN2_LOW = 1.9082149292705877e-10
_ROUNDER = 6755399441055744.0  # 1.5 * 2**52: adding it rounds to whole numbers


def perturb(series: Floats, starts: Ints, patches: Floats, out: Floats) -> None:
    """Compute the public `perturb`."""
    with threads_for(_COPIED * out.size):
        _perturb(series, starts, patches, out)


def window_saliency(clean: Floats, perturbed: Floats, temperature: float, out: Floats) -> None:
    """Compute the public `window_saliency`; `out` is (N, W), or (N, W, K) for the terms."""
    with threads_for(perturbed.size):
        _scores(clean, perturbed, float(temperature), _terms(out))


def window_saliency_backward(
    grad: Floats,
    clean: Floats,
    perturbed: Floats,
    temperature: float,
    grad_clean: Floats,
    grad_perturbed: Floats,
) -> None:
    """Compute the public `window_saliency_backward`."""
    terms = _terms(grad)
    with threads_for(perturbed.size):
        _backward(
            terms,
            terms,
            1.0,
            0.0,
            clean,
            perturbed,
            float(temperature),
            grad_clean,
            grad_perturbed,
        )


def normalize(saliency: Floats, epsilon: float, out: Floats) -> None:
    """Compute the public `normalize`; `out` may be `saliency`."""
    flat = saliency.reshape(-1)
    with threads_for(_SUMMED * flat.size):
        scale, _ = _factors(flat, flat, float(epsilon))
        _combine(flat, flat, scale, 0.0, out.reshape(-1))


def normalize_backward(grad: Floats, saliency: Floats, epsilon: float, out: Floats) -> None:
    """Compute the public `normalize_backward`."""
    flat, upstream = saliency.reshape(-1), grad.reshape(-1)
    with threads_for(_SUMMED * flat.size):
        scale, pull = _factors(upstream, flat, float(epsilon))
        _combine(upstream, flat, scale, pull, out.reshape(-1))


def temporal_saliency(
    clean: Floats, perturbed: Floats, temperature: float, epsilon: float, out: Floats
) -> None:
    """Compute the public `temporal_saliency`."""
    window_saliency(clean, perturbed, temperature, out)
    normalize(out, epsilon, out)


def temporal_saliency_backward(
    grad: Floats,
    clean: Floats,
    perturbed: Floats,
    temperature: float,
    epsilon: float,
    grad_clean: Floats,
    grad_perturbed: Floats,
) -> None:
    """Compute the public `temporal_saliency_backward`."""
    scores, terms = np.empty_like(grad), _terms(grad)
    window_saliency(clean, perturbed, temperature, scores)
    with threads_for(perturbed.size):
        scale, pull = _factors(grad.reshape(-1), scores.reshape(-1), float(epsilon))
        _backward(
            terms,
            _terms(scores),
            scale,
            pull,
            clean,
            perturbed,
            float(temperature),
            grad_clean,
            grad_perturbed,
        )


def _terms(scores: Floats) -> Floats:
    """Return scores as (N, W, K), or (N, W, 1) if they are sums."""
    return scores if scores.ndim == 3 else scores[..., None]


@compiled
def _perturb(series: Floats, starts: Ints, patches: Floats, out: Floats) -> None:
    samples, windows, channels, width = patches.shape
    for copy in prange(samples * windows):
        n, w = copy // windows, copy % windows
        start = starts[n, w]
        for c in range(channels):
            row, end = out[n, w, c], start + width
            _copy(series[n, c, :start], row[:start])
            _copy(patches[n, w, c], row[start:end])
            _copy(series[n, c, end:], row[end:])


@compiled
def _scores(clean: Floats, perturbed: Floats, temperature: float, out: Floats) -> None:
    samples = len(clean)
    for share in prange(_SHARES):
        work = _workspace(perturbed.shape[2])
        for n in range(share * samples // _SHARES, (share + 1) * samples // _SHARES):
            _score(clean[n], perturbed[n], temperature, out[n], work)


@compiled
def _backward(
    grad: Floats,
    scores: Floats,
    scale: float,
    pull: float,
    clean: Floats,
    perturbed: Floats,
    temperature: float,
    grad_clean: Floats,
    grad_perturbed: Floats,
) -> None:
    """Each score's gradient is `grad * scale`, less `pull` where the score is positive."""
    samples = len(clean)
    for share in prange(_SHARES):
        work = _workspace(perturbed.shape[2])
        for n in range(share * samples // _SHARES, (share + 1) * samples // _SHARES):
            logits, outs = (clean[n], perturbed[n], temperature), (grad_clean[n], grad_perturbed[n])
            _push((grad[n], scores[n], scale, pull), logits, outs, work)


@compiled
def _factors(grad: Floats, scores: Floats, epsilon: float) -> tuple[float, float]:
    """Return the factor of scores, and the pull of each positive one on the mean."""
    found = np.empty((_SHARES, 3))
    for share in prange(_SHARES):
        part = slice(share * scores.size // _SHARES, (share + 1) * scores.size // _SHARES)
        found[share, 0], found[share, 1], found[share, 2] = _tally(grad[part], scores[part])
    total, count, dot = 0.0, 0.0, 0.0
    for share in range(_SHARES):
        total += found[share, 0]
        count += found[share, 1]
        dot += found[share, 2]
    count = max(1.0, count)
    scale = 1 / (total / count + epsilon)
    return scale, dot * scale * scale / count


@compiled
def _combine(grad: Floats, scores: Floats, scale: float, pull: float, out: Floats) -> None:
    for i in prange(scores.size):
        out[i] = grad[i] * scale - (pull if scores[i] > 0 else 0.0)


@inlined
def _copy(values: Floats, out: Floats) -> None:
    for t in range(out.size):  # a loop over one axis from 0 becomes a copy of memory
        out[t] = values[t]


@inlined
def _tally(grad: Floats, scores: Floats) -> tuple[float, float, float]:
    """Return the sum and the number of positive scores, and the product of scores and gradient."""
    total, count, dot = 0.0, 0, 0.0
    for i in range(scores.size):
        score = np.float64(scores[i])
        positive = score if score > 0 else 0.0
        total += positive
        count += np.int64(score > 0)  # a whole number, else the loop does not vectorize
        dot += score * grad[i]
    return total, count, dot


@inlined
def _workspace(classes: int) -> _Workspace:
    """Return memory that a thread uses for one sample after the other.

    Rows (3, K) for the clean logits; columns of perturbed ones, twice (K, _LANES); and five
    numbers a column.
    """
    columns = np.empty((2, classes, _LANES))
    return np.empty((3, classes)), columns[0], columns[1], np.empty((5, _LANES))


@inlined
def _score(
    clean: Floats, perturbed: Floats, temperature: float, out: Floats, work: _Workspace
) -> None:
    """Write the scores of one sample: clean (K,), perturbed (W, K), out (W, K) or (W, 1)."""
    windows, classes = perturbed.shape
    rows, shifted, exps, numbers = work
    log_p, p = rows[0], rows[1]
    top, total, score = numbers[0], numbers[1], numbers[2]
    _softmax(clean, temperature, log_p, p)
    for first in range(0, windows, _LANES):
        lanes = _softmaxes(perturbed, first, temperature, shifted, exps, top, total)
        for j in range(lanes):
            total[j] = math.log(total[j])
        score[:] = 0.0
        for k in range(classes):
            weight = p[k] * temperature * temperature
            for j in range(lanes):
                term = weight * (log_p[k] - shifted[k, j] + total[j])
                shifted[k, j] = term
                score[j] += term
        for j in range(min(lanes, windows - first)):
            if out.shape[1] == classes:
                for k in range(classes):
                    out[first + j, k] = shifted[k, j]
            else:
                out[first + j, 0] = score[j]


@inlined
def _push(upstream: _Upstream, logits: _Logits, outs: _Outs, work: _Workspace) -> None:
    """Write the gradients of one sample: clean (K,), perturbed (W, K), scores (W, K) or (W, 1)."""
    grad, scores, scale, pull = upstream
    (clean, perturbed, temperature), (grad_clean, grad_perturbed) = logits, outs
    windows, classes = perturbed.shape
    last = grad.shape[1] - 1  # 0 if the terms were summed: they share their gradient
    (log_p, p, to_log_p), shifted, exps, numbers = work
    total, log_sum, sums, pushes = numbers[1], numbers[2], numbers[3], numbers[4]
    _softmax(clean, temperature, log_p, p)
    to_log_p[:] = 0.0
    for first in range(0, windows, _LANES):
        lanes = _softmaxes(perturbed, first, temperature, shifted, exps, numbers[0], total)
        there = min(lanes, windows - first)
        pushes[there:] = 0.0
        for j in range(lanes):
            log_sum[j] = math.log(total[j])
        sums[:] = 0.0
        for k in range(classes):
            if k <= last:
                for j in range(there):
                    pulled = pull if scores[first + j, k] > 0 else 0.0
                    pushes[j] = grad[first + j, k] * scale - pulled
            pushed = 0.0
            for j in range(lanes):
                weighted = pushes[j] * p[k]
                sums[j] += weighted
                pushed += weighted * (1 + log_p[k] - shifted[k, j] + log_sum[j])
                shifted[k, j] = weighted
            to_log_p[k] += pushed
        _push_lanes(
            exps, shifted, sums, total, temperature, lanes, grad_perturbed[first : first + there]
        )
    whole = to_log_p.sum()
    for k in range(classes):
        grad_clean[k] = temperature * (to_log_p[k] - p[k] * whole)


@inlined
def _push_lanes(
    exps: Floats,
    shifted: Floats,
    sums: Floats,
    total: Floats,
    temperature: float,
    lanes: int,
    out: Floats,
) -> None:
    """Write the gradients of some perturbed logits, (lanes, K), from columns (K, lanes)."""
    for j in range(lanes):
        sums[j] /= total[j]
    for k in range(len(exps)):
        for j in range(lanes):
            exps[k, j] = temperature * (exps[k, j] * sums[j] - shifted[k, j])
    for j in range(len(out)):
        for k in range(len(exps)):
            out[j, k] = exps[k, j]


@rounded
def _exp(x: float) -> float:
    """Return e**x for x up to 0, to a rounding; unlike the C library's, it vectorizes.

    e**x = 2**k * e**r with |r| <= ln(2)/2, and twelve terms of the series for e**r.
    """
    x = -708.0 if x < -708.0 else x  # the least whose power is a normal number; NaN stays
    shifted = x * _LOG2_E + _ROUNDER
    k = shifted - _ROUNDER
    r = (x - k * _LN2_HIGH) - k * _LN2_LOW
    power = 1 / 479001600.0
    power = power * r + 1 / 39916800.0
    power = power * r + 1 / 3628800.0
    power = power * r + 1 / 362880.0
    power = power * r + 1 / 40320.0
    power = power * r + 1 / 5040.0
    power = power * r + 1 / 720.0
    power = power * r + 1 / 120.0
    power = power * r + 1 / 24.0
    power = power * r + 1 / 6.0
    power = power * r + 0.5
    power = power * r + 1.0
    power = power * r + 1.0
    exponent = (np.float64(shifted).view(np.int64) + np.int64(1023)) << np.int64(52)
    return float(power * np.int64(exponent).view(np.float64))


@inlined
def _softmax(logits: Floats, temperature: float, log_p: Floats, p: Floats) -> None:
    """Write the log-probabilities and probabilities of one row of logits, (K,)."""
    top, total = np.float64(logits[0]), 0.0
    for k in range(logits.size):
        top = top if logits[k] <= top else np.float64(logits[k])
    for k in range(logits.size):
        log_p[k] = (np.float64(logits[k]) - top) / temperature
        p[k] = _exp(log_p[k])
        total += p[k]
    log_sum = math.log(total)
    for k in range(logits.size):
        log_p[k] -= log_sum
        p[k] /= total


@inlined
def _softmaxes(
    logits: Floats,
    first: int,
    temperature: float,
    shifted: Floats,
    exps: Floats,
    top: Floats,
    total: Floats,
) -> int:
    """Turn rows of logits (W, K) from `first` into columns; return how many, a multiple of 8.

    `shifted` becomes logits less their maximum `top`, and `exps` their powers, (K, _LANES);
    `total` the sums of these, (_LANES,). Columns that no row is left for hold zeros.
    """
    there = min(_LANES, logits.shape[0] - first)
    lanes: int = (there + 7) & ~7  # whole vectors
    shifted[:, there:lanes] = 0.0
    for j in range(there):
        for k in range(logits.shape[1]):
            shifted[k, j] = logits[first + j, k]
    inverse = 1 / temperature
    top[:] = -np.inf
    for k in range(logits.shape[1]):
        for j in range(lanes):
            top[j] = top[j] if shifted[k, j] <= top[j] else shifted[k, j]  # NaN wins, and spreads
    total[:] = 0.0
    for k in range(logits.shape[1]):
        for j in range(lanes):
            shifted[k, j] = (shifted[k, j] - top[j]) * inverse
            exps[k, j] = _exp(shifted[k, j])
            total[j] += exps[k, j]
    return lanes
