"""The settings of a training, its learning curves, and the files that it leaves."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from edgedistill.errors import ConfigError
from edgedistill.io.progress import ProgressCallback

WEIGHTS, FACTS = "weights.safetensors", "model.json"  # of a network, in its folder
Precision = Literal["32-true", "16-mixed", "bf16-mixed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class FitConfig:
    """The settings of a training.

    `select` chooses the weights to keep: those with the lowest validation
    "objective" (every term at full weight, once all have joined), the lowest
    validation "cross_entropy", or the "last".
    """

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}  # for the recipe

    epochs: int = 100
    batch_size: int = 32
    learning_rate: float = 1e-3
    weight_decay: float = 0.0
    schedule: Literal["cosine", "constant"] = "cosine"
    select: Literal["objective", "cross_entropy", "last"] = "cross_entropy"
    patience: int | None = None  # epochs without improvement; None trains them all
    clip: float | None = None  # largest gradient norm once every term has joined
    freeze_norm_from: float | None = None  # share of the epochs with live batch-norm statistics
    accelerator: str = "auto"
    devices: int = 1
    strategy: str = "auto"
    precision: Precision = "32-true"

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "devices", "patience"):
            count = getattr(self, name)
            if count is not None and count < 1:
                raise ConfigError(f"{name} must be at least 1, got {count}.")
        for name in ("learning_rate", "clip"):
            size = getattr(self, name)
            if size is not None and not 0 < size < math.inf:
                raise ConfigError(f"{name} must be a finite number above 0, got {size}.")
        if not 0 <= self.weight_decay < math.inf:
            raise ConfigError(f"weight_decay must be a finite 0 or more, got {self.weight_decay}.")
        if self.freeze_norm_from is not None and not 0 <= self.freeze_norm_from <= 1:
            raise ConfigError(
                f"freeze_norm_from must lie between 0 and 1, got {self.freeze_norm_from}."
            )


@dataclass(frozen=True, slots=True)
class Epoch:
    """One point of the learning curves."""

    epoch: int  # from 1
    train_loss: float
    validation_loss: float  # the objective, every term at full weight
    validation_cross_entropy: float  # nats
    validation_accuracy: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOutputs:
    """The files that outlive a run; `None` writes none."""

    checkpoint: Path | None = None  # a killed run resumes from it; removed once the run has ended
    tensorboard: Path | None = None


def epoch_callback(
    on_progress: ProgressCallback, stage: str, total: int
) -> Callable[[Epoch], None]:
    """Return a callback of `fit` that reports every epoch of a stage.

    Args:
        on_progress: progress.
        stage: name of the stage.
        total: number of epochs.
    """
    return lambda epoch: on_progress(stage, epoch.epoch, total)
