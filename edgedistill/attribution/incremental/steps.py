"""A network as the steps that a change takes from the series to the logits, and fewer of them.

Fewer passes over memory: factors go into weights, and masks are left out that let nothing through.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from edgedistill.attribution.incremental.layers import Conv, Join, Relu, Rule, Scale, Sum


class UnsupportedModule(Exception):
    """The reason why changes cannot be followed through a module, as text for people."""


@dataclass(frozen=True, slots=True)
class Step:
    """A layer: its name, its rule, the names of its inputs."""

    name: str
    rule: Rule
    inputs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Steps:
    """Everything between the series and the logits, in order."""

    source: str
    steps: tuple[Step, ...]
    values: Mapping[str, Tensor]  # of every layer, for the clean series
    logits: str


def folded(steps: Sequence[Step]) -> tuple[Step, ...]:
    """Return the steps with the factors behind a convolution in its weight: a pass less."""
    users = Counter(name for step in steps for name in step.inputs)
    result: dict[str, Step] = {}
    for step in steps:
        before = result.get(step.inputs[0])
        if before and users[before.name] == 1 and isinstance(step.rule, Scale):
            scaled = _scaled(before, step.rule.factor, result, users)
        else:
            scaled = None
        if before is None or scaled is None:
            result[step.name] = step
        else:  # the name stays that of the factors: what comes next reads the clean value there
            result |= {part.name: part for part in scaled[:-1]}
            del result[before.name]
            result[step.name] = replace(scaled[-1], name=step.name)
    return tuple(result.values())


def unbounded(steps: Sequence[Step]) -> tuple[Step, ...]:
    """Return the steps without masks behind convolutions that end in ReLUs: those have theirs."""
    masked: set[str] = set()  # outputs that must be zero beyond the borders
    for step in reversed(steps):
        passes_on = isinstance(step.rule, Join | Sum | Scale) and step.name not in masked
        if not isinstance(step.rule, Relu) and not passes_on:
            masked.update(step.inputs)
    return tuple(
        replace(step, rule=replace(step.rule, bounded=False))
        if isinstance(step.rule, Conv) and step.name not in masked
        else step
        for step in steps
    )


def to_channels_last(steps: Sequence[Step]) -> tuple[Step, ...]:
    """Return the steps with constant weights in the memory layout that convolutions read."""
    return tuple(
        replace(step, rule=step.rule.to_channels_last())
        if isinstance(step.rule, Conv) and not step.rule.weight.requires_grad
        else step
        for step in steps
    )


def _scaled(
    step: Step, factor: Tensor | float, steps: Mapping[str, Step], users: Mapping[str, int]
) -> list[Step] | None:
    """Return a convolution, or several side by side and what joins them, times a factor."""
    if isinstance(step.rule, Conv):
        return [replace(step, rule=step.rule.scaled(factor))]
    parts = [steps.get(name) for name in step.inputs]
    if not isinstance(step.rule, Join) or not isinstance(factor, Tensor):
        return None
    convs = [part.rule for part in parts if part and isinstance(part.rule, Conv)]
    if len(convs) < len(parts) or any(users[name] > 1 for name in step.inputs):
        return None
    factors = torch.split(factor, [len(conv.weight) for conv in convs])
    rules = [conv.scaled(part) for conv, part in zip(convs, factors, strict=True)]
    return [
        *(replace(part, rule=rule) for part, rule in zip(parts, rules, strict=True) if part),
        step,
    ]
