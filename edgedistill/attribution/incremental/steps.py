"""A network as the steps that a change takes from the series to the logits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from edgedistill.attribution.incremental.rules import Rule


class UnsupportedModule(Exception):
    """Why a module cannot be followed; the text is for people."""


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
    values: Mapping[str, Tensor]  # what every layer gives for the clean series
    logits: str
