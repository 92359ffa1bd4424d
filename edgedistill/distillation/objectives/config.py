"""What the configs of all objectives share: weight, start and ramp, and how one is built."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Annotated, ClassVar

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator

from edgedistill.distillation.context import ObjectiveContext
from edgedistill.distillation.objectives.objective import Objective, check_ramp
from edgedistill.errors import ConfigError

Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]


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
