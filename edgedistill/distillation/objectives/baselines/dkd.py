"""Decoupled knowledge distillation: the target class and the rest, each with its own weight."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from edgedistill.distillation.objectives.objective import Batch, Objective, StudentOutputs


class DKD(Objective):
    """`temperature**2 * (alpha * KL(target or not) + beta * KL(among the rest))`.

    The target is the label. With two classes the rest is one class and its term is 0. The
    published warm-up is linear over 20 epochs of a large image set; ours counts optimizer
    steps, because an epoch of a small set has only a few.

    Source: Zhao et al. 2022, arXiv:2203.08679.
    """

    teacher: Tensor

    def __init__(
        self, teacher: Tensor, *, alpha: float, beta: float, temperature: float, warmup: int
    ) -> None:
        """Keep the teacher's logits of all series.

        Args:
            teacher: logits of the teacher, (M, K).
            alpha: weight of the target against the rest.
            beta: weight of the distribution among the rest.
            temperature: softmax temperature of both terms.
            warmup: optimizer steps after which the loss counts in full.
        """
        super().__init__()
        self.register_buffer("teacher", teacher, persistent=False)
        self._alpha, self._beta = alpha, beta
        self._temperature, self._warmup = temperature, warmup

    def forward(self, batch: Batch, outputs: StudentOutputs) -> Tensor:
        """Return the loss, a scalar."""
        student = outputs.logits / self._temperature
        teacher = self.teacher[batch.rows] / self._temperature
        target = _divergence(*(_target_or_not(z, batch.labels) for z in (student, teacher)))
        rest = _divergence(*(_among_the_rest(z, batch.labels) for z in (student, teacher)))
        loss = (self._alpha * target + self._beta * rest) * self._temperature**2
        return loss * self._share(batch.step)

    def _share(self, step: int) -> float:
        return min(1.0, (step + 1) / max(self._warmup, 1))


def _target_or_not(logits: Tensor, labels: Tensor) -> Tensor:
    """Return log p(target) and log(1 - p(target)), (N, 2)."""
    target = logits.gather(1, labels[:, None])
    rest = _rest(logits, labels).logsumexp(dim=1, keepdim=True)
    return functional.log_softmax(torch.cat([target, rest], dim=1), dim=1)


def _among_the_rest(logits: Tensor, labels: Tensor) -> Tensor:
    """Return log p of the other classes, conditional on not the target, (N, K-1)."""
    return functional.log_softmax(_rest(logits, labels), dim=1)


def _rest(logits: Tensor, labels: Tensor) -> Tensor:
    number, classes = logits.shape
    others = torch.arange(classes, device=logits.device) != labels[:, None]
    return logits[others].reshape(number, classes - 1)


def _divergence(student: Tensor, teacher: Tensor) -> Tensor:
    return functional.kl_div(student, teacher, log_target=True, reduction="batchmean")
