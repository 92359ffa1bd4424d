"""The pairing of two models' layers, and their dependencies."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from edgedistill.compare.activations import Layer, Network
from edgedistill.io.arrays import Floats

How = Literal["names", "order"]

_SEVERAL = 2  # series that shapes are inferred for, so that no other axis looks like theirs


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """The same layer in two models."""

    first: Layer
    second: Layer
    size: int  # values a series

    def match_axes(self, value: Floats) -> Floats:
        """Return a value of the first with the axes of one step that the second has."""
        long = iter(
            size for size, usual in zip(value.shape, self.first.shape, strict=True) if usual != 1
        )
        return value.reshape([1 if usual == 1 else next(long) for usual in self.second.shape])


@dataclass(frozen=True, slots=True, kw_only=True)
class Pairing:
    """The paired layers, in the order of the first model."""

    how: How | None  # None: no layer is paired
    batch: int | None  # series a call, if either model fixes it
    pairs: tuple[Pair, ...]
    alone: tuple[tuple[str, ...], tuple[str, ...]]  # layers of either model without a counterpart


def pair(first: Network, second: Network, shape: tuple[int, int]) -> Pairing:
    """Return the layers that two models share.

    Layers of the same name and shape are one. Where no name but the output's is shared, all
    layers are paired in their order, if operators and shapes then agree from end to end. Axes of
    one step do not count: a convolution lifted to two dimensions gives the same values.

    Args:
        first: first model.
        second: second model; if both fix the batch size, then the same.
        shape: C and T of the series.
    """
    batch = first.batch or second.batch
    usual = batch or _SEVERAL
    one, other = (network.layers(usual, shape) for network in (first, second))
    how: How | None = "names"
    found = _by_name(first.output, one, second.output, other)
    if len(found) < 2:
        how, found = "order", list(zip(one, other, strict=False))
        if [_kind(layer) for layer in one] != [_kind(layer) for layer in other]:
            how, found = None, []
    paired = {a.name for a, _ in found}, {b.name for _, b in found}
    return Pairing(
        how=how,
        batch=batch,
        pairs=tuple(Pair(first=a, second=b, size=math.prod(a.shape) // usual) for a, b in found),
        alone=(
            tuple(layer.name for layer in one if layer.name not in paired[0]),
            tuple(layer.name for layer in other if layer.name not in paired[1]),
        ),
    )


def readers(pairs: Sequence[Pair], network: Network) -> dict[str, list[str]]:
    """Return for each paired layer the paired layers that read it, in the second model.

    Args:
        pairs: pairs to consider.
        network: second model.

    Returns:
        Names in the first model, without those that another paired layer lies between.
    """
    names = {pair.second.read: pair.first.name for pair in pairs}
    found: dict[str, list[str]] = {pair.first.name: [] for pair in pairs}
    for value, name in names.items():
        for source in network.sources(value, names):
            if source in names:
                found[names[source]].append(name)
    return found


def _by_name(
    output: str, one: Sequence[Layer], other_output: str, other: Sequence[Layer]
) -> list[tuple[Layer, Layer]]:
    """Return the layers of equal name and form; the outputs are paired whatever their names."""
    there = {output if b.name == other_output else b.name: b for b in other}
    return [(a, there[a.name]) for a in one if a.name in there and _form(a) == _form(there[a.name])]


def _kind(layer: Layer) -> tuple[str, tuple[int, ...]]:
    return layer.operator, _form(layer)


def _form(layer: Layer) -> tuple[int, ...]:
    return tuple(size for size in layer.shape if size != 1)
