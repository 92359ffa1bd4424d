"""What `doctor` says of one thing, and the facts that it says it from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from packaging.version import InvalidVersion, Version

Facts = Mapping[str, Any]  # what `doctor --json` of the device side tells
Outcome = Literal["ok", "warn", "missing"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that deployment depends on."""

    what: str
    outcome: Outcome  # missing: deployment fails without it
    seen: str
    needed: str = ""
    commands: tuple[str, ...] = ()  # to type on the board
    advice: str = ""  # in words, where no command does it


def version(text: str) -> Version | None:
    """Return a version that a board tells; None if it is none."""
    try:
        return Version(text)
    except InvalidVersion:
        return None
