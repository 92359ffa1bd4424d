"""What every objective is made of."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass

from torch import Tensor, nn


@dataclass(frozen=True, slots=True)
class Batch:
    """Some rows of the series that training knows."""

    rows: Tensor  # (N,) into all known series, for what was computed beforehand
    series: Tensor  # (N, C, T)
    labels: Tensor  # (N,)
    step: int = 0  # counts optimizer steps; seeds what is drawn anew at each


@dataclass(frozen=True, slots=True)
class Answer:
    """What the student says of a batch."""

    logits: Tensor  # (N, K)
    copies: Tensor  # what the objective asked besides, (M, C, T); M is 0 if nothing
    perturbed: Tensor  # logits of the copies, (M, K)


class Objective(nn.Module):
    """A loss of the student's logits, and of its logits for perturbed copies if it asks for any."""

    def copies(self, batch: Batch) -> Tensor:
        """Return copies of the series the student must answer, (M, C, T); by default none."""
        return batch.series[:0]

    @abstractmethod
    def forward(self, batch: Batch, answer: Answer) -> Tensor:
        """Return the loss of the student's answer to a batch, a scalar."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Term:
    """An objective with its weight and the share of the epochs after which it joins."""

    objective: Objective
    weight: float = 1.0
    start: float = 0.0  # in [0, 1)
