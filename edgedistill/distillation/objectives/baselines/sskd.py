"""Self-supervision: match the classes and similarities of views of the series.

Views are augmentations under which the class of a series stays the same. Each takes series,
(N, C, T), and returns as many, every one changed in its own way; the generator decides how.

Source of the views: Um et al. 2017, "Data augmentation of wearable sensor data for Parkinson's
disease monitoring using convolutional neural networks", arXiv:1706.00527; kinds and usual
strengths. Our choices: noise is relative to the spread of each channel of each series, so that
units do not matter; speeds are interpolated by lines, not by splines; cuts may lie anywhere.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from edgedistill.distillation.features import EMBEDDING, record_features
from edgedistill.distillation.objectives.kd import softened_kl
from edgedistill.distillation.objectives.objective import Batch, Objective, StudentOutputs
from edgedistill.io.arrays import AnyFloats

View = Callable[[AnyFloats, np.random.Generator], AnyFloats]
_NOISE = 0.05  # standard deviation, in those of the channel
_STRETCH = 0.1  # standard deviation of a channel's factor around 1
_SPEED = 0.2  # standard deviation of the speed of time around 1
_SLOWEST = 0.1  # speed; time never stands still
_KNOTS = 6  # at which speeds are drawn, both ends among them
_PIECES = 4  # that change places


class SSKD(Objective):
    """Divergences of the classes of views, and of their similarities to the series.

    Two losses: the softened divergence of the logits of views, and that of how similar each
    view is to every series of the batch, a softmax of cosines of embeddings. The other two of
    the paper are terms of their own, `cross_entropy` (its weight 0.1) and `kd` (0.9).

    As published: both losses, their weights, both temperatures. Our choices: views of series
    (jitter, scaling, time-warp, permutation) in place of rotated images; the embeddings
    themselves are compared, no heads are trained for it; all views count, also those that the
    teacher gets wrong, of which the paper leaves out the worst.

    Source: Xu et al. 2020, arXiv:2006.07114.
    """

    layers = (EMBEDDING,)

    def __init__(
        self,
        teacher: nn.Module,
        *,
        temperature: float,
        similarity_temperature: float,
        views_weight: float,
        similarity_weight: float,
        seed: int,
    ) -> None:
        """Freeze and keep the teacher.

        Args:
            teacher: network whose logits and embeddings are matched.
            temperature: softmax temperature of the logits.
            similarity_temperature: softmax temperature of the cosines.
            views_weight: weight of the loss of logits.
            similarity_weight: weight of the loss of similarities.
            seed: seed, with the step, of every view.
        """
        super().__init__()
        self._seed = seed
        self._teacher = (teacher.requires_grad_(False),)  # in a tuple: it is no part of training
        self._temperature, self._similarity_temperature = temperature, similarity_temperature
        self._views_weight, self._similarity_weight = views_weight, similarity_weight

    def views(self, batch: Batch) -> Tensor:
        """Return a view of every kind, (V, N, C, T), drawn anew at every step."""
        rng = np.random.default_rng((self._seed, batch.step, int(batch.rows[0])))
        series = batch.series.cpu().numpy()
        views = np.stack([view(series, rng) for view in VIEWS])
        return torch.from_numpy(views).to(batch.series.device)

    def forward(self, batch: Batch, outputs: StudentOutputs) -> Tensor:
        """Return the loss, a scalar; the teacher runs on the same views."""
        views = outputs.other_views()
        student = _similarity(outputs.features[EMBEDDING], views.features[EMBEDDING].flatten(0, 1))
        _, clean = self._teacher_outputs(batch.series)
        logits, embeddings = self._teacher_outputs(views.series.flatten(0, 1))
        teacher = _similarity(clean, embeddings)
        classes = _divergence(views.logits.flatten(0, 1), logits, self._temperature)
        similarities = _divergence(student, teacher, self._similarity_temperature)
        return self._views_weight * classes + self._similarity_weight * similarities

    @torch.no_grad()
    def _teacher_outputs(self, series: Tensor) -> tuple[Tensor, Tensor]:
        """Return the teacher's logits and embeddings of series, (N, K) and (N, F)."""
        teacher = self._teacher[0].to(series.device).eval()
        with record_features(teacher, self.layers) as features:
            logits = teacher(series)
        return logits, features[EMBEDDING]


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


def _similarity(series: Tensor, views: Tensor) -> Tensor:
    """Return the cosine of each view, (V * N, F), with each series, (N, F): (V * N, N)."""
    return functional.normalize(views, dim=1) @ functional.normalize(series, dim=1).T


def _divergence(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Return the softened KL in the precision of the student."""
    return softened_kl(student, teacher.to(student.dtype), temperature)


def _like(series: AnyFloats, values: AnyFloats) -> AnyFloats:
    typed: AnyFloats = values.astype(series.dtype, copy=False)
    return typed
