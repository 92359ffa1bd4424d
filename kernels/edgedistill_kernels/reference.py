"""The definition of every kernel in plain NumPy: the oracle the fast backends are held against.

It computes in float64 and returns the type of its arguments. Logits of float32 keep their
meaning that way: the terms of a small divergence cancel below float32's rounding. Arguments are
checked before they come here, in the package's public functions.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]
Ints = NDArray[np.integer]
Form = Literal["summed", "elementwise"]
_ROUNDING = 1e-24  # of a map's mean square: float64 noise around a constant map


def perturb(series: Floats, starts: Ints, patches: Floats, out: Floats) -> None:
    """Write the series into each of its windows' copies, then the patch over its window.

    `series` is (N, C, T), `starts` (N, W), `patches` (N, W, C, w), `out` (N, W, C, T).
    """
    out[...] = series[:, None]
    for sample, window in np.ndindex(starts.shape):
        start = starts[sample, window]
        out[sample, window, :, start : start + patches.shape[3]] = patches[sample, window]


def window_saliency(clean: Floats, perturbed: Floats, *, temperature: float, form: Form) -> Floats:
    """Return `KL(p(x) || p(x~)) * temperature**2`, (N, W), or its terms, (N, W, K)."""
    p, log_ratio = _ratio(clean, perturbed, temperature)
    terms = p * log_ratio * temperature**2
    scores = terms if form == "elementwise" else terms.sum(axis=-1)
    return _like(clean, scores)


def window_saliency_backward(
    grad: Floats, clean: Floats, perturbed: Floats, *, temperature: float
) -> tuple[Floats, Floats]:
    """Return the gradients of both logits, (N, K) and (N, W, K).

    `grad` is that of the scores, (N, W), or of their terms, (N, W, K).
    """
    p, log_ratio = _ratio(clean, perturbed, temperature)
    q = np.exp(_log_softmax(perturbed.astype(np.float64) / temperature))  # (N, W, K)
    upstream = grad.astype(np.float64) if grad.ndim == 3 else grad[..., None].astype(np.float64)
    weighted = upstream * p  # (N, W, K)
    to_perturbed = temperature * (q * weighted.sum(axis=-1, keepdims=True) - weighted)
    to_log_p = (weighted * (1 + log_ratio)).sum(axis=1)  # (N, K)
    to_clean = temperature * (to_log_p - p[:, 0] * to_log_p.sum(axis=-1, keepdims=True))
    return _like(clean, to_clean), _like(clean, to_perturbed)


def normalize(saliency: Floats, *, epsilon: float) -> Floats:
    """Divide a whole batch of scores by the mean of its positive entries, of any shape."""
    scale, _ = _scale(saliency, epsilon)
    return _like(saliency, saliency * scale)


def normalize_backward(grad: Floats, saliency: Floats, *, epsilon: float) -> Floats:
    """Return the gradient of the scores, through the mean as well."""
    scale, count = _scale(saliency, epsilon)
    dot = np.sum(grad * saliency, dtype=np.float64)
    return _like(saliency, grad * scale - (saliency > 0) * (dot * scale**2 / count))


def temporal_saliency(
    clean: Floats, perturbed: Floats, *, temperature: float, form: Form, epsilon: float
) -> Floats:
    """Return the normalized window saliency of a batch, (N, W) or (N, W, K)."""
    precise = clean.astype(np.float64)
    scores = window_saliency(precise, perturbed, temperature=temperature, form=form)
    return _like(clean, normalize(scores, epsilon=epsilon))


def temporal_saliency_backward(
    grad: Floats, clean: Floats, perturbed: Floats, *, temperature: float, epsilon: float
) -> tuple[Floats, Floats]:
    """Return the gradients of both logits through the normalized scores, (N, K), (N, W, K)."""
    precise = clean.astype(np.float64)
    form: Form = "elementwise" if grad.ndim == 3 else "summed"
    scores = window_saliency(precise, perturbed, temperature=temperature, form=form)
    upstream = normalize_backward(grad, scores, epsilon=epsilon)
    found = window_saliency_backward(upstream, precise, perturbed, temperature=temperature)
    return _like(clean, found[0]), _like(clean, found[1])


def timestep_map(scores: Floats, starts: Ints, *, width: int, length: int) -> Floats:
    """Return for every time step the mean score of the windows that cover it, (N, T); else 0."""
    total = np.zeros((len(scores), length))
    cover = np.zeros((len(scores), length))
    for sample, window in np.ndindex(scores.shape):
        start = starts[sample, window]
        total[sample, start : start + width] += scores[sample, window]
        cover[sample, start : start + width] += 1
    return _like(scores, total / np.maximum(cover, 1))


def pearson(first: Floats, second: Floats) -> Floats:
    """Return the correlation of each pair of maps, (N, W) -> (N,); 0 for a constant map."""
    a = first.astype(np.float64) - first.mean(axis=-1, keepdims=True, dtype=np.float64)
    b = second.astype(np.float64) - second.mean(axis=-1, keepdims=True, dtype=np.float64)
    norm = np.sqrt((a * a).sum(axis=-1)) * np.sqrt((b * b).sum(axis=-1))
    defined = _varies(first, a) & _varies(second, b)
    r: Floats = np.where(defined, (a * b).sum(axis=-1) / np.where(defined, norm, 1.0), 0.0)
    return r


def spearman(first: Floats, second: Floats) -> Floats:
    """Return the rank correlation of each pair of maps, (N, W) -> (N,); ties share their rank."""
    return pearson(_ranks(first), _ranks(second))


def top_sign_agreement(first: Floats, second: Floats, *, count: int) -> Floats:
    """Return the share of the `count` strongest that both maps hold, with the same sign, (N,)."""
    shared = _strongest(first, count) & _strongest(second, count)
    same = shared & (np.sign(first) * np.sign(second) > 0)
    share: Floats = same.sum(axis=1) / count
    return share


def _ratio(clean: Floats, perturbed: Floats, temperature: float) -> tuple[Floats, Floats]:
    """Return p, (N, 1, K), and log p - log q, (N, W, K)."""
    log_p = _log_softmax(clean.astype(np.float64) / temperature)[:, None]
    return np.exp(log_p), log_p - _log_softmax(perturbed.astype(np.float64) / temperature)


def _log_softmax(logits: Floats) -> Floats:
    shifted = logits - logits.max(axis=-1, keepdims=True)
    result: Floats = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return result


def _scale(saliency: Floats, epsilon: float) -> tuple[float, int]:
    """Return the factor of the scores, and the number of positive ones, 1 at least."""
    positive = saliency[saliency > 0]
    count = max(1, positive.size)
    return 1 / (float(positive.sum(dtype=np.float64)) / count + epsilon), count


def _strongest(maps: Floats, count: int) -> NDArray[np.bool_]:
    order = np.argsort(-np.abs(maps), axis=1, kind="stable")[:, :count]
    mask = np.zeros(maps.shape, dtype=bool)
    np.put_along_axis(mask, order, True, axis=1)
    return mask


def _ranks(maps: Floats) -> Floats:
    """Return ranks from 0, (N, W); equal values share their mean rank, a map with NaN has none."""
    order = np.argsort(maps, axis=1, kind="stable")
    ordered = np.take_along_axis(maps, order, axis=1)
    place = np.broadcast_to(np.arange(maps.shape[1]), maps.shape)
    edge = np.ones((len(maps), 1), dtype=bool)
    step = ordered[:, 1:] != ordered[:, :-1]  # a run of equal values ends, another begins
    first = np.maximum.accumulate(np.where(np.hstack([edge, step]), place, 0), axis=1)
    last = np.where(np.hstack([step, edge]), place, maps.shape[1])
    last = np.minimum.accumulate(last[:, ::-1], axis=1)[:, ::-1]
    ranks = np.empty(maps.shape)
    np.put_along_axis(ranks, order, (first + last) / 2, axis=1)
    ranks[np.isnan(maps).any(axis=1)] = np.nan
    return ranks


def _varies(maps: Floats, centered: Floats) -> NDArray[np.bool_]:
    """Return where a map is more than a constant with rounding, (N,); NaN is not."""
    level = np.square(maps, dtype=np.float64).sum(axis=-1)
    varies: NDArray[np.bool_] = np.square(centered).sum(axis=-1) > _ROUNDING * level
    return varies


def _like(example: Floats, values: Floats) -> Floats:
    """Return `values` in the type of `example`; float32 at least."""
    typed: Floats = values.astype(np.result_type(example.dtype, np.float32), copy=False)
    return typed
