"""Contrastive distillation: discriminate each series from those of other classes."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from edgedistill.distillation.features import Pair
from edgedistill.distillation.objectives.baselines.layers import LayerObjective
from edgedistill.distillation.objectives.objective import Batch, StudentOutputs
from edgedistill.io.arrays import Ints
from edgedistill.saliency import perturbation


class CRD(LayerObjective):
    """Noise-contrastive estimation between projected embeddings of student and teacher.

    The two embeddings of a series belong together; those that a memory holds of training
    series of other classes do not. Each network is once the one that is compared: an anchor's
    log-odds of belonging are `similarity / temperature - log(negatives) - level`, where the
    level is the log-mean of exp(similarity / temperature) in the first batch, as the
    published code estimates its constant; the paper has a ratio of set sizes there.

    Ours: the other network's embedding is the present one, not the memory's, so that
    validation series, which no memory holds, are judged alike; and the negatives are fewer,
    because our sets are small. In several processes each keeps a memory of its own series.

    Source: Tian et al. 2020, arXiv:1910.10699.
    """

    of_student: Tensor
    of_teacher: Tensor
    levels: Tensor

    def __init__(
        self,
        pair: Pair,
        labels: Ints,
        *,
        size: int,
        negatives: int,
        temperature: float,
        momentum: float,
        seed: int = 0,
    ) -> None:
        """Start with random projections and a random memory.

        Args:
            pair: embeddings of both networks.
            labels: labels of the training series, which are the first m of all M, (m,).
            size: size of the projections.
            negatives: Q, draws a series and step.
            temperature: temperature of the similarities.
            momentum: share of a memory that stays when its series comes again.
            seed: seed, with the step, of every draw.
        """
        super().__init__(pair)
        self._labels, self._negatives = labels, negatives
        self._temperature, self._momentum, self._seed = temperature, momentum, seed
        self.student = nn.Linear(pair.student_channels, size)
        self.teacher = nn.Linear(pair.teacher_channels, size)
        for name in ("of_student", "of_teacher"):
            unknown = functional.normalize(torch.randn(len(labels), size), dim=1)
            self.register_buffer(name, unknown)
        self.register_buffer("levels", torch.full((2,), math.nan))  # until the first step

    def forward(self, batch: Batch, outputs: StudentOutputs) -> Tensor:
        """Return the loss, a scalar; training updates the memory."""
        raw_student, raw_teacher = self.layer_outputs(batch, outputs)
        student = functional.normalize(self.student(raw_student), dim=1)
        teacher = functional.normalize(self.teacher(raw_teacher), dim=1)
        drawn = self._draw(batch)
        loss = self._contrast(0, student, teacher, self.of_teacher[drawn])
        loss = loss + self._contrast(1, teacher, student, self.of_student[drawn])
        if torch.is_grad_enabled():
            self._update_memory(self.of_student, batch.rows, student)
            self._update_memory(self.of_teacher, batch.rows, teacher)
        return loss

    def _contrast(self, network: int, anchor: Tensor, same: Tensor, others: Tensor) -> Tensor:
        """Return the loss of an anchor (N, F) with its like (N, F) and others (N, Q, F)."""
        near = (anchor * same.detach()).sum(dim=1, keepdim=True) / self._temperature
        far = (others @ anchor[:, :, None]).squeeze(2) / self._temperature
        level = self._level(network, torch.cat([near, far], dim=1).detach())
        shift = math.log(self._negatives) + level
        missed = functional.softplus(shift - near).sum(dim=1)
        mistaken = functional.softplus(far - shift).sum(dim=1)
        return (missed + mistaken).mean()

    def _level(self, network: int, similarities: Tensor) -> Tensor:
        """Return the log-mean of the first batch's similarities, which the first step keeps."""
        level = self.levels[network].clone()  # of the step, however the buffer changes
        if not level.isnan():
            return level
        level = similarities.flatten().logsumexp(dim=0) - math.log(similarities.numel())
        if torch.is_grad_enabled():
            self.levels[network] = level
        return level

    def _draw(self, batch: Batch) -> Tensor:
        """Return training rows of other classes, (N, Q); always the same at a step."""
        rng = np.random.default_rng((self._seed, batch.step, int(batch.rows[0])))
        labels = batch.labels.cpu().numpy()
        drawn = perturbation.draw_donors(labels, self._labels, self._negatives, rng)
        return torch.from_numpy(drawn).to(batch.series.device)

    @torch.no_grad()
    def _update_memory(self, memory: Tensor, rows: Tensor, embeddings: Tensor) -> None:
        mixed = self._momentum * memory[rows] + (1 - self._momentum) * embeddings
        memory[rows] = functional.normalize(mixed, dim=1)
