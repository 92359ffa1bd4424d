"""The base of all rules: the change that a layer passes on, as tensors and in a graph.

A linear layer maps a change as it maps a value, without its bias. Any other layer f
gives f(z + dz) - f(z), for which it needs the clean z. Nothing is computed where
nothing changes, and two large logits are never subtracted.

A rule does that for any windows, and looks at them while it does. A file has its windows inside,
so all that depends on them is computed once, by `Rule.graph_layer`, and kept as constants: in a
graph, a change is (N, C, W, L), a window is a row of an image, and one two-dimensional convolution
with a kernel of one row serves them all, with N as the only free axis. A changed vector is
(N, W, F).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from edgedistill.attribution.incremental.regions import Clean, ReadRegion, Region

Regions = Sequence[Region | None]  # positions of each input that the windows reach
CleanInput = Clean | Tensor  # the clean input of a layer: temporal, or a vector
Value = CleanInput | tuple[CleanInput, CleanInput] | None  # as a rule reads it; None: not at all


class UnsupportedModule(Exception):
    """The reason why changes cannot be followed through a module, as text for people."""


@dataclass(frozen=True, slots=True)
class Change:
    """The change of a value for each window: temporal (W, N, L, C) in a region, or (W, N, F)."""

    value: Tensor
    region: Region | None = None

    @property
    def temporal(self) -> Region:
        """Return the region of a temporal change."""
        if self.region is None:
            raise TypeError("This change is that of a vector.")
        return self.region


class Rule:
    """A kind of layer."""

    reads_clean: ClassVar[bool] = False  # whether a graph layer needs its clean first input

    def region(self, sources: Regions) -> Region | None:
        """Return the region of the output that can change; None for a vector."""
        return sources[0]

    def prepare_clean_input(self, value: Tensor, source: Region | None) -> Value:
        """Prepare the clean input, (N, C, T) or (N, F), as `apply` reads it for all windows."""
        del value, source
        return None

    def held_numbers(self, source: Region | None) -> int:
        """Return the count of numbers in memory a window and series, besides the change itself."""
        del source
        return 0

    def macs(self, source: Region | None) -> float:
        """Return the multiply-accumulates a window and series."""
        del source  # most layers multiply next to nothing
        return 0.0

    def full_macs(self) -> float:
        """Return the multiply-accumulates of a full run on one series."""
        return 0.0

    def graph_layer(self, sources: Regions) -> nn.Module | None:
        """Return the layer of a graph that computes the same; None if there is none.

        Args:
            sources: positions of each input that the windows reach; None for a vector.

        Returns:
            A module that maps the changes of all inputs and the clean first input, (N, C, T) or
            (N, F), which is None unless the rule `reads_clean`, to the change of the output.
        """
        del sources
        return None

    @abstractmethod
    def apply(self, changes: Sequence[Change], clean: Value) -> Change:
        """Return the change of the layer's output."""


def require_region(region: Region | None) -> Region:
    """Return the region of a series; a vector has none."""
    if region is None:
        raise TypeError("This layer needs series, and got a vector.")
    return region


def require_series(clean: Value) -> Clean:
    """Return a clean series; the layer cannot do without."""
    if not isinstance(clean, Clean):
        raise TypeError("This layer needs its clean input, a series.")
    return clean


def require_vector(clean: Value) -> Tensor:
    """Return a clean vector; the layer cannot do without."""
    if not isinstance(clean, Tensor):
        raise TypeError("This layer needs its clean input, a vector.")
    return clean


def require_pair(clean: Value) -> tuple[CleanInput, CleanInput]:
    """Return both readings of a clean input; the layer cannot do without."""
    if not isinstance(clean, tuple):
        raise TypeError("This layer needs its clean input, read in two ways.")
    return clean


def at_region(clean: Value, region: Region | None) -> Tensor:
    """Return a clean value where a change has its region; a vector is everywhere."""
    return require_vector(clean) if region is None else require_series(clean).at(region)


class OneOfAll(nn.Module):
    """A clean vector, (N, F), for all windows: (N, 1, F)."""

    def forward(self, value: Tensor) -> Tensor:
        """Return the vector with an axis for the windows."""
        return value[:, None]


def clean_reader(region: Region | None) -> nn.Module:
    """Return the layer that reads a clean value, a vector or a series, at a region."""
    return OneOfAll() if region is None else ReadRegion(region)
