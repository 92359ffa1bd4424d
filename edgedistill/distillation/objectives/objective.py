"""The interface of all objectives: batches and student outputs in, a loss out."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from edgedistill.distillation.configs.config import ObjectiveConfig, check_ramp
from edgedistill.distillation.context import ObjectiveContext
from edgedistill.distillation.features import Features
from edgedistill.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Batch:
    """Some of the M series that training may see."""

    rows: Tensor  # (N,) into all M series, for values that were computed beforehand
    series: Tensor  # (N, C, T)
    labels: Tensor  # (N,); of an unlabeled series the teacher's class
    step: int = 0  # counts optimizer steps; seeds what is drawn anew at each
    labeled: Tensor | None = None  # (N,), whether a label is known; None: all


@dataclass(frozen=True, slots=True)
class Windows:
    """Perturbed windows of a batch, for which the student's logits are needed."""

    starts: Tensor  # (N, W), or (1, W) if all series share them
    patches: Tensor  # values that overwrite each window, (N, W, C, w)
    others: tuple[Windows, ...] = ()  # of other widths

    @property
    def widths(self) -> tuple[Windows, ...]:
        """Return these windows and the others, a width each."""
        return self, *self.others


@dataclass(frozen=True, slots=True)
class ViewOutputs:
    """The student's outputs for a batch in other views."""

    series: Tensor  # the views, (V, N, C, T)
    logits: Tensor  # (V, N, K)
    features: Features  # as in `StudentOutputs`, with V in front


@dataclass(frozen=True, slots=True)
class StudentOutputs:
    """The student's outputs for a batch."""

    logits: Tensor  # (N, K)
    windows: Windows | None = None  # the objective's windows
    changes: Tensor | None = None  # of the logits by each window, width by width, (N, W, K)
    features: Features = field(default_factory=dict)  # outputs of the objective's layers
    views: ViewOutputs | None = None  # outputs for the objective's views

    def perturbed(self) -> tuple[Windows, Tensor]:
        """Return the objective's windows, and how they change the logits, (N, W, K)."""
        if self.windows is None or self.changes is None:
            raise TypeError("This objective needs the answers to its windows.")
        return self.windows, self.changes

    def other_views(self) -> ViewOutputs:
        """Return the objective's views with the student's outputs for them."""
        if self.views is None:
            raise TypeError("This objective needs the answers to its views.")
        return self.views


class Objective(nn.Module):
    """A loss of the student's logits, and of the windows, views and layers that it names.

    Its parameters are trained along with the student. State that a resumed run needs is a
    persistent buffer; the teacher's outputs are not.
    """

    layers: tuple[str, ...] = ()  # layers of the student whose outputs `forward` reads

    def windows(self, batch: Batch) -> Windows | None:
        """Return the perturbed windows that `forward` needs; by default none."""
        del batch
        return None

    def views(self, batch: Batch) -> Tensor | None:
        """Return the views of the series that `forward` needs, (V, N, C, T); by default none."""
        del batch
        return None

    @abstractmethod
    def forward(self, batch: Batch, outputs: StudentOutputs) -> Tensor:
        """Return the loss of the student's outputs for a batch, a scalar."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightedObjective:
    """An objective with its weight, and the shares of the epochs in which it joins.

    It joins after `start`; over the next `ramp` its weight grows linearly from 0 to `weight`.
    """

    objective: Objective
    weight: float = 1.0
    start: float = 0.0  # in [0, 1)
    ramp: float = 0.0  # 0: the whole weight at once; start + ramp is at most 1

    def __post_init__(self) -> None:
        check_ramp(self.start, self.ramp)

    @property
    def ramp_end(self) -> float:
        """Return the share of the epochs after which it counts in full."""
        return min(1.0, self.start + self.ramp)  # 1/3 + 2/3 may round to more

    def weight_at(self, share: float) -> float:
        """Return its weight after a share of training, 0 before it joins."""
        if share >= self.ramp_end:
            return self.weight
        return self.weight * max(0.0, share - self.start) / self.ramp if self.ramp else 0.0


def build_objective(config: ObjectiveConfig, context: ObjectiveContext) -> Objective:
    """Return the objective of a config; the seed decides its initial parameters.

    Raises:
        ConfigError: the teacher lacks what it needs, or a layer does not exist.
    """
    if config.needs_maps and not context.has_maps:
        raise ConfigError(
            f"The objective {config.name} asks the teacher about perturbed series, and a file of "
            "logits cannot answer. Use kd, or bring the model that gave the logits."
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(context.seed)
        return config.build(context)
