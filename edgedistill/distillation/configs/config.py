"""The config of an objective: what all share of their recipe keys, and the types of the keys."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import BaseModel, ConfigDict, Field, model_validator

from edgedistill.errors import ConfigError

if TYPE_CHECKING:
    from edgedistill.distillation.context import ObjectiveContext
    from edgedistill.distillation.objectives.objective import Objective

ROUNDING = 1e-9  # of sums of shares
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
