"""Self-supervision: series and their other versions are alike to the student as to the teacher."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from edgedistill.distillation.context import ObjectiveContext
from edgedistill.distillation.features import EMBEDDING, embedding_size, record_features
from edgedistill.distillation.objectives.config import ObjectiveConfig, Positive
from edgedistill.distillation.objectives.objective import Batch, Objective, StudentOutputs
from edgedistill.distillation.views import VIEWS


class SSKDConfig(ObjectiveConfig):
    """Views of the series: their classes and similarities; beside cross_entropy .1 and kd .9."""

    name: Literal["sskd"]
    temperature: float = Field(4.0, gt=0)  # of the logits of views
    similarity_temperature: float = Field(0.5, gt=0)
    views_weight: Positive = 2.7  # of the logits of views
    similarity_weight: Positive = 10.0

    def build(self, context: ObjectiveContext) -> SSKD:
        teacher = context.teacher_network(self.name)
        for network in (teacher, context.student):
            embedding_size(network, context.sample)  # refuses one without an embedding, by name
        return SSKD(
            teacher,
            temperature=self.temperature,
            similarity_temperature=self.similarity_temperature,
            views_weight=self.views_weight,
            similarity_weight=self.similarity_weight,
            seed=context.seed,
        )


class SSKD(Objective):
    """What a teacher says of views of the series: their classes, and what they are similar to.

    Two losses: the softened divergence of the logits of views, and that of how similar each
    view is to every series of the batch, a softmax of cosines of embeddings. The other two of
    the paper are terms of their own, `cross_entropy` (its weight 0.1) and `kd` (0.9).

    As published: both losses, their weights, both temperatures. Our choices: views of series
    (jitter, scaling, time-warp, permutation) in place of rotated images; the embeddings
    themselves are compared, no heads are trained for it; all views teach, also those that the
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
            teacher: asked for the logits and embeddings of series and views.
            temperature: of the logits.
            similarity_temperature: of the cosines.
            views_weight: of the loss of logits.
            similarity_weight: of the loss of similarities.
            seed: with the step, of every view.
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
        """Return the loss, a scalar; the teacher is asked about the same views."""
        seen = outputs.other_views()
        student = _similarity(outputs.features[EMBEDDING], seen.features[EMBEDDING].flatten(0, 1))
        _, clean = self._teacher_outputs(batch.series)
        logits, other = self._teacher_outputs(seen.series.flatten(0, 1))
        classes = _divergence(seen.logits.flatten(0, 1), logits, self._temperature)
        alike = _divergence(student, _similarity(clean, other), self._similarity_temperature)
        return self._views_weight * classes + self._similarity_weight * alike

    @torch.no_grad()
    def _teacher_outputs(self, series: Tensor) -> tuple[Tensor, Tensor]:
        """Return the teacher's logits and embeddings of series, (N, K) and (N, F)."""
        teacher = self._teacher[0].to(series.device).eval()
        with record_features(teacher, self.layers) as found:
            logits = teacher(series)
        return logits, found[EMBEDDING]


def _similarity(series: Tensor, views: Tensor) -> Tensor:
    """Return the cosine of each view, (V * N, F), with each series, (N, F): (V * N, N)."""
    return functional.normalize(views, dim=1) @ functional.normalize(series, dim=1).T


def _divergence(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Return `temperature**2 * KL(teacher || student)` of softmaxes, the mean over rows."""
    divergence = functional.kl_div(
        functional.log_softmax(student / temperature, dim=1),
        functional.log_softmax(teacher.to(student.dtype) / temperature, dim=1),
        log_target=True,
        reduction="batchmean",
    )
    return divergence * temperature**2
