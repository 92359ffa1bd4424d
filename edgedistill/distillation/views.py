"""Views: augmentations of a series under which its class stays the same.

Each takes series, (N, C, T), and returns as many, every one changed in its own way; the
generator decides how.

Source: Um et al. 2017, "Data augmentation of wearable sensor data for Parkinson's disease
monitoring using convolutional neural networks", arXiv:1706.00527; kinds and usual strengths.
Our choices: noise is relative to the spread of each channel of each series, so that units do
not matter; speeds are interpolated by lines, not by splines; cuts may lie anywhere.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from edgedistill.io.arrays import AnyFloats

View = Callable[[AnyFloats, np.random.Generator], AnyFloats]

_NOISE = 0.05  # standard deviation, in those of the channel
_STRETCH = 0.1  # standard deviation of a channel's factor around 1
_SPEED = 0.2  # standard deviation of the speed of time around 1
_SLOWEST = 0.1  # speed; time never stands still
_KNOTS = 6  # at which speeds are drawn, both ends among them
_PIECES = 4  # that change places


def jitter(series: AnyFloats, rng: np.random.Generator) -> AnyFloats:
    """Return the series with white noise added."""
    noise = _NOISE * series.std(axis=2, keepdims=True) * rng.normal(size=series.shape)
    return _like(series, series + noise)


def scaling(series: AnyFloats, rng: np.random.Generator) -> AnyFloats:
    """Return the series, each channel multiplied by a factor around 1."""
    factors = rng.normal(1, _STRETCH, (*series.shape[:2], 1))
    return _like(series, series * factors)


def time_warp(series: AnyFloats, rng: np.random.Generator) -> AnyFloats:
    """Return the series at a changing speed, between the same ends."""
    samples, _, length = series.shape
    knots = np.maximum(rng.normal(1, _SPEED, (samples, _KNOTS)), _SLOWEST)
    at = np.linspace(0, _KNOTS - 1, length)
    speeds = np.stack([np.interp(at, np.arange(_KNOTS), row) for row in knots])  # (N, T)
    passed = np.cumsum(speeds, axis=1) - speeds[:, :1]
    steps = passed / np.maximum(passed[:, -1:], _SLOWEST) * (length - 1)  # (N, T), from 0 to T-1
    left = np.minimum(steps.astype(np.int64), max(0, length - 2))
    share = (steps - left)[:, None]
    before, after = (
        np.take_along_axis(series, np.minimum(left + shift, length - 1)[:, None], axis=2)
        for shift in (0, 1)
    )
    return _like(series, (1 - share) * before + share * after)


def permutation(series: AnyFloats, rng: np.random.Generator) -> AnyFloats:
    """Return the series cut into pieces that changed places; a cut is the same in all channels."""
    samples, _, length = series.shape
    order = np.empty((samples, length), dtype=np.int64)
    for sample in range(samples):
        cuts = np.sort(rng.permutation(np.arange(1, length))[: _PIECES - 1])
        pieces = np.split(np.arange(length), cuts)
        order[sample] = np.concatenate([pieces[i] for i in rng.permutation(len(pieces))])
    return _like(series, np.take_along_axis(series, order[:, None], axis=2))


VIEWS: tuple[View, ...] = (jitter, scaling, time_warp, permutation)


def _like(series: AnyFloats, values: AnyFloats) -> AnyFloats:
    typed: AnyFloats = values.astype(series.dtype, copy=False)
    return typed
