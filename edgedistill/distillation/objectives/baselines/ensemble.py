"""An ensemble of teachers, weighted for each series by correctness or agreement."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from edgedistill.distillation.configs.baselines import Weighting
from edgedistill.distillation.objectives.objective import Batch, Objective, StudentOutputs
from edgedistill.errors import ShapeError


class Ensemble(Objective):
    """`temperature**2 * KL(mean of the teachers || student)`, the mean weighted a series.

    By correctness, where labels can be trusted: a teacher weighs as much as the probability
    that it gives to the label. By agreement, without labels: as exp(-KL(mean || teacher)), so
    that an outlier weighs less. Weights are taken at temperature 1 and sum to 1.

    That teachers are weighted by their correctness on labelled series is published. The
    measures of correctness and agreement are our choice, and what the paper does besides is
    left out: it also weights the losses of the series, on unlabelled ones by disagreement.

    Source: Wu et al. 2022, arXiv:2204.00548.
    """

    teacher: Tensor

    def __init__(
        self,
        teachers: Sequence[Tensor],
        labels: Tensor,
        *,
        labeled: Tensor | None = None,
        temperature: float,
        weighting: Weighting,
    ) -> None:
        """Keep the weighted mean of the teachers' distributions.

        Args:
            teachers: logits of each teacher for all series, (M, K).
            labels: labels of all series, (M,).
            labeled: whether a label is known, (M,); None: all are. By correctness, the others are
                weighted by agreement.
            temperature: softmax temperature of teachers and student.
            weighting: weighting of the teachers.

        Raises:
            ShapeError: the teachers differ in classes or series.
        """
        super().__init__()
        shapes = [tuple(logits.shape) for logits in teachers]
        if len({*shapes, (len(labels), shapes[0][1])}) > 1:
            raise ShapeError(
                f"The teachers' logits have the shapes {shapes} for {len(labels)} series. All must "
                "be (series, classes) of one data set; leave out the teacher that differs."
            )
        logits = torch.stack(list(teachers))
        weights = _weights(logits, labels, weighting)
        if labeled is not None:
            weights = torch.where(labeled, weights, _weights(logits, labels, "agreement"))
        softened = functional.softmax(logits / temperature, dim=2)
        mean = (weights[:, :, None] * softened).sum(dim=0)
        self.register_buffer("teacher", mean, persistent=False)
        self._temperature = temperature

    def forward(self, batch: Batch, outputs: StudentOutputs) -> Tensor:
        """Return the loss, a scalar."""
        student = functional.log_softmax(outputs.logits / self._temperature, dim=1)
        divergence = functional.kl_div(student, self.teacher[batch.rows], reduction="batchmean")
        return divergence * self._temperature**2


def _weights(logits: Tensor, labels: Tensor, weighting: Weighting) -> Tensor:
    """Return the weights of S teachers for each series, (S, M), from logits (S, M, K)."""
    log_p = functional.log_softmax(logits, dim=2)
    if weighting == "correctness":
        index = labels[None, :, None].expand(len(logits), -1, 1)
        return functional.softmax(log_p.gather(2, index).squeeze(2), dim=0)  # p / sum of p
    mean = log_p.exp().mean(dim=0)
    apart = (mean * (mean.log() - log_p)).nan_to_num().sum(dim=2)  # 0 log 0 is 0
    return functional.softmax(-apart, dim=0)
