"""The choice of a network: its family, width and depth, or a factory of one's own. No torch."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field

from edgedistill.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """A kind of network, its published size, and the meaning of its width and depth."""

    width: int
    depth: int
    width_means: str
    depth_means: str


FAMILIES: dict[str, Family] = {
    "lstm": Family(width=100, depth=3, width_means="units a layer", depth_means="layers"),
    "fcn": Family(
        width=128,
        depth=3,
        width_means="filters of the first and last block; twice as many between",
        depth_means="convolution blocks",
    ),
    "resnet": Family(
        width=64,
        depth=3,
        width_means="filters of the first block; twice as many in the others",
        depth_means="residual blocks of three convolutions",
    ),
    "inception": Family(
        width=32,
        depth=6,
        width_means="filters of each of the four branches",
        depth_means="inception modules, a shortcut around every three",
    ),
    "lite": Family(
        width=32,
        depth=2,
        width_means="filters a convolution",
        depth_means="depthwise-separable layers",
    ),
}

LARGEST = {"width": 4096, "depth": 256}  # of a network that a GPU can hold


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSpec:
    """The choice of a network: a family, and its width and depth if not the published ones.

    Raises:
        ConfigError: no such family, or a width or depth below 1 or beyond `LARGEST`.
    """

    family: str
    width: int | None = None  # None: the family's own; its meaning is the family's `width_means`
    depth: int | None = None
    explained: bool = False  # whether it predicts its teacher's saliency map too

    def __post_init__(self) -> None:
        if self.family not in FAMILIES:
            known = ", ".join(FAMILIES)
            near = difflib.get_close_matches(self.family.lower(), FAMILIES, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise ConfigError(
                f"There is no model family {self.family!r}.{hint} Choose from {known}."
            )
        for name, value in (("width", self.width), ("depth", self.depth)):
            if value is not None and not 1 <= value <= LARGEST[name]:
                raise ConfigError(
                    f"The {name} of a {self.family} must be at least 1 and at most "
                    f"{LARGEST[name]:,}, got {value}. Leave it out for the published size."
                )


Argument = bool | int | float  # of a factory; no texts, with which any function could be called


@dataclass(frozen=True, slots=True, kw_only=True)
class FactorySpec:
    """The choice of a torch module of one's own: what makes it, and its arguments."""

    source: str  # package.module:factory
    arguments: Mapping[str, Argument] = field(default_factory=dict)  # besides the sizes of the data


NetworkSpec = ModelSpec | FactorySpec
