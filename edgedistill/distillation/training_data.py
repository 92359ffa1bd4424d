"""The series that training may see."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, slots=True)
class TrainingData:
    """All series that training may see, and which of them only judge."""

    series: Tensor  # (M, C, T)
    labels: Tensor  # (M,)
    train: Tensor  # rows that are learned from
    validation: Tensor  # rows that choose weights and hyper-parameters
