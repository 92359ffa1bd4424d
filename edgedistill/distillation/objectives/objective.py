"""The interface of all objectives: batches and student outputs in, a loss out.

The configs share weight, start and ramp, and how an objective is built from one.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, ClassVar

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor, nn

from edgedistill.distillation.context import ObjectiveContext
from edgedistill.distillation.features import Features
from edgedistill.errors import ConfigError

ROUNDING = 1e-9  # of sums of shares
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]


@dataclass(frozen=True, slots=True)
class Batch:
    """Some of the M series that training may see."""

    rows: Tensor  # (N,) into all M series, for values that were computed beforehand
    series: Tensor  # (N, C, T)
    labels: Tensor  # (N,)
    step: int = 0  # counts optimizer steps; seeds what is drawn anew at each


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


def check_ramp(start: float, ramp: float) -> None:
    """Refuse a ramp that would not end within the training.

    Raises:
        ConfigError: it is below 0, or ends after the last epoch.
    """
    if not 0 <= ramp <= 1 - start + ROUNDING:
        raise ConfigError(
            f"ramp is {ramp:g} beside a start of {start:g}. Both are shares of the epochs: let "
            f"ramp be at least 0 and at most {1 - start:g}."
        )


class Section(BaseModel):
    """A part of a recipe: no unknown keys, no infinities."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Range(Section):
    """A weight that is drawn between two bounds, evenly on a log scale."""

    low: Positive
    high: Positive

    @model_validator(mode="after")
    def _ordered(self) -> Range:
        if self.low >= self.high:
            raise ValueError(f"low must be below high, got {self.low:g} and {self.high:g}.")
        return self


# One value, or several or a range of which one is chosen.
Weight = Positive | Annotated[tuple[Positive, ...], Field(min_length=1)] | Range


class ObjectiveConfig(Section):
    """The recipe keys of an objective; a subclass adds its own, their defaults and `build`."""

    if TYPE_CHECKING:
        name: str  # a Literal in each config, by which the recipe's union chooses
    weight: Weight = 1.0
    start: float = Field(0.0, ge=0, lt=1)  # share of the epochs after which it joins
    ramp: float = Field(0.0, ge=0, le=1)  # share over which its weight then grows from 0

    needs_maps: ClassVar[bool] = False  # whether the teacher must take perturbed series
    predicts_map: ClassVar[bool] = False  # whether the student gets a saliency map as an output

    @property
    def other_teachers(self) -> tuple[str, ...]:
        """Sources of further teachers, besides the one that is distilled."""
        return ()

    @property
    def uses_cache(self) -> bool:
        """Whether building it writes teacher outputs that other students can share."""
        return False

    def check(self) -> None:
        """Refuse settings that contradict each other.

        Raises:
            ConfigError: they do; the message begins with the key of one.
        """
        check_ramp(self.start, self.ramp)

    @abstractmethod
    def build(self, context: ObjectiveContext) -> Objective:
        """Return the objective; call `build_objective`, which also seeds its parameters.

        Raises:
            ConfigError: the teacher lacks what it needs, or a layer does not exist.
        """

    @model_validator(mode="after")
    def _checked(self) -> ObjectiveConfig:
        try:
            self.check()
        except ConfigError as error:
            raise ValueError(str(error)) from error
        return self


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
