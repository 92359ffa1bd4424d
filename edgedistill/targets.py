"""The boards that settings are known for: one TOML file each."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any

import tomli

from edgedistill.errors import ConfigError


def names() -> list[str]:
    """Return the names of all targets."""
    return sorted(path.stem for path in _folder().glob("*.toml"))


def settings(name: str) -> dict[str, Any]:
    """Return what a target sets in a recipe.

    Raises:
        ConfigError: there is no such target.
    """
    if name not in names():
        near = difflib.get_close_matches(name, names(), n=1)
        hint = f"Did you mean {near[0]}? " if near else ""
        raise ConfigError(f"There is no target {name!r}. {hint}Known: {', '.join(names())}.")
    text = (_folder() / f"{name}.toml").read_text("utf-8")
    recipe: dict[str, Any] = tomli.loads(text).get("recipe", {})
    return recipe


def _folder() -> Path:
    """Return where the files lie: inside an installed package, beside it in a checkout."""
    here = Path(__file__).parent
    packaged = here / "targets_data"
    return packaged if packaged.is_dir() else here.parent / "deploy" / "targets"
