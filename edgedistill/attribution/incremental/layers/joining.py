"""Several layers as one: side by side, or added."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import Tensor, nn

from edgedistill.attribution.incremental.layers.rule import (
    Change,
    Regions,
    Rule,
    Value,
    require_region,
)
from edgedistill.attribution.incremental.regions import (
    Region,
    SelectPositions,
    expand_to_region,
    scatter_into,
    union,
)


@dataclass(frozen=True, slots=True)
class Join(Rule):
    """Channels of several layers side by side; zero where one of them is."""

    def region(self, sources: Regions) -> Region | None:
        """Return the smallest region that holds all."""
        return None if sources[0] is None else union([require_region(source) for source in sources])

    def graph_layer(self, sources: Regions) -> nn.Module:
        """Return the layer of a graph."""
        return _JoinLayer(self, sources)

    def apply(self, changes: Sequence[Change], clean: Value) -> Change:
        """Return the changes side by side."""
        del clean
        if changes[0].region is None:
            return Change(torch.cat([change.value for change in changes], dim=-1))
        out = union([change.temporal for change in changes])
        windows, samples = changes[0].value.shape[:2]
        ends = list(accumulate(change.value.shape[-1] for change in changes))
        joined = changes[0].value.new_zeros(windows, samples, out.size, ends[-1])
        for change, begin, end in zip(changes, [0, *ends], ends, strict=False):
            scatter_into(change.value, change.temporal, out, joined[..., begin:end])
        return Change(joined, out)


@dataclass(frozen=True, slots=True)
class Sum(Rule):
    """Several layers added, or subtracted."""

    signs: tuple[float, ...]

    def region(self, sources: Regions) -> Region | None:
        """Return the smallest region that holds all."""
        return None if sources[0] is None else union([require_region(source) for source in sources])

    def graph_layer(self, sources: Regions) -> nn.Module:
        """Return the layer of a graph."""
        return _JoinLayer(self, sources)

    def apply(self, changes: Sequence[Change], clean: Value) -> Change:
        """Return the sum of the changes."""
        del clean
        values, out = _aligned(changes)
        total = values[0] * self.signs[0] if self.signs[0] != 1 else values[0]
        for value, sign in zip(values[1:], self.signs[1:], strict=True):
            total = total + value if sign == 1 else total + sign * value
        return Change(total, out)


class _JoinLayer(nn.Module):
    """Several layers side by side, or added."""

    def __init__(self, rule: Join | Sum, sources: Regions) -> None:
        super().__init__()
        self.signs = rule.signs if isinstance(rule, Sum) else None
        found = [source for source in sources if source is not None]
        out = union(found) if found else None
        self.places = nn.ModuleList(
            nn.Identity() if source is None or out is None else SelectPositions(source, out)
            for source in sources
        )
        self.axis = 1 if found else 2

    def forward(self, changes: Sequence[Tensor], clean: Tensor | None) -> Tensor:
        del clean
        placed: list[Tensor] = [
            place(change) for place, change in zip(self.places, changes, strict=True)
        ]
        if self.signs is None:
            return torch.cat(placed, dim=self.axis)
        total = placed[0] if self.signs[0] == 1 else -placed[0]
        for change, sign in zip(placed[1:], self.signs[1:], strict=True):
            total = total + change if sign == 1 else total - change
        return total


def _aligned(changes: Sequence[Change]) -> tuple[list[Tensor], Region | None]:
    if changes[0].region is None:
        return [change.value for change in changes], None
    out = union([change.temporal for change in changes])
    return [expand_to_region(change.value, change.temporal, out) for change in changes], out
