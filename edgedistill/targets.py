"""Targets: one TOML file for each family of boards, with settings, requirements and hardware."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import tomli
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import InvalidVersion, Version
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from edgedistill.errors import ConfigError

EMULATED = "emulated"  # key of a release to install where an emulator runs the board's programs
_MAX_FAMILIES = 4  # in a chain of families that extend each other


def _specifier(text: str) -> str:
    try:
        SpecifierSet(text)
    except InvalidSpecifier as error:
        raise ValueError(f"{text!r} are no bounds of versions, such as '>=1.20,<2'") from error
    return text


def _version(text: str) -> str:
    try:
        Version(text)
    except InvalidVersion as error:
        raise ValueError(f"{text!r} is no version, such as '1.20'") from error
    return text


Bounds = Annotated[str, AfterValidator(_specifier)]
Release = Annotated[str, AfterValidator(_version)]


class _Table(BaseModel):
    """A table of a target's file; an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class BoardMatcher(_Table):
    """Rules to recognize a board: all that are set must hold."""

    machine: str  # as of `uname -m`
    compatible: str | None = None  # its chip, in the device tree
    names: tuple[str, ...] = ()  # one of them is part of the board's name


class Requirements(_Table):
    """Requirements on the installed software."""

    runtimes: tuple[Literal["onnxruntime", "tensorrt"], ...] = Field(min_length=1)  # one of them
    python: Bounds
    numpy: Bounds
    onnxruntime: Bounds
    tensorrt: Bounds | None = None
    system: str | None = None  # a file of systems/: the vendor's releases


class Hardware(_Table):
    """Hardware of the family; absent values are unknown, or none."""

    compute_capability: str | None = None
    memory_gb: tuple[int, ...] = ()  # one for each module
    dla_cores: int = 0  # of the module with most of them
    power_modes: tuple[str, ...] = ()


class Limits(_Table):
    """The least that is enough."""

    glibc: Release
    memory_mib: int = Field(ge=1)
    disk_mib: int = Field(ge=1)


class SystemRelease(_Table):
    """One release of the vendor's system, with the software it contains."""

    version: Release
    linux: Release  # the release of its Linux
    boards: tuple[str, ...]  # chips, as in `BoardMatcher.compatible`
    tensorrt: Release
    cuda: Release
    python: Release
    dla: bool  # whether its TensorRT has the deep learning accelerators


class Target(_Table):
    """A family of boards."""

    name: str
    description: str
    board: BoardMatcher
    requires: Requirements
    install: Mapping[str, Mapping[str, Release]] = {}  # package -> Python, or EMULATED -> release
    hardware: Hardware = Hardware()
    limits: Limits
    recipe: Mapping[str, Any] = {}
    releases: tuple[SystemRelease, ...] = ()  # of the vendor's system for its chip, oldest first


def names() -> list[str]:
    """Return the names of all targets."""
    return sorted(path.stem for path in _folder().glob("*.toml"))


def settings(name: str) -> dict[str, Any]:
    """Return the recipe settings of a target.

    Raises:
        ConfigError: there is no such target, or its file is invalid.
    """
    return dict(load(name).recipe)


def load(name: str) -> Target:
    """Read a target.

    Raises:
        ConfigError: there is no such target, or its file is invalid.
    """
    if name not in names():
        near = difflib.get_close_matches(name, names(), n=1)
        hint = f"Did you mean {near[0]}? " if near else ""
        raise ConfigError(f"There is no target {name!r}. {hint}Known: {', '.join(names())}.")
    values = _extended(name)
    try:
        target = Target(name=name, **values)
        return target.model_copy(update={"releases": _releases(target)})
    except ValidationError as error:
        fault = error.errors()[0]
        place = ".".join(map(str, fault["loc"]))
        raise ConfigError(f"Target {name}: {place}: {fault['msg']}. Mend {name}.toml.") from error


def recognize(machine: str, board: str, compatible: str) -> Target | None:
    """Return the most specific family that a machine belongs to, or None.

    Args:
        machine: processor architecture, as of `uname -m`.
        board: name of the board in its device tree, or "".
        compatible: chips that the device tree lists, or "".
    """
    matches: list[tuple[int, Target]] = []
    for target in map(load, names()):
        rules = [target.board.machine == machine]
        if target.board.compatible is not None:
            rules.append(target.board.compatible in compatible)
        if target.board.names:
            rules.append(any(name in board for name in target.board.names))
        if all(rules):
            matches.append((len(rules), target))
    return max(matches, key=lambda match: match[0])[1] if matches else None


def _extended(name: str) -> dict[str, Any]:
    """Merge the values of a target over those of the family that it extends."""
    values = _read(f"{name}.toml")
    chain = [values]
    while (base := chain[0].pop("extends", None)) is not None:
        if base not in names() or len(chain) >= _MAX_FAMILIES:
            raise ConfigError(
                f"Target {name} extends {base!r}, which does not exist or leads in a circle. "
                f"Known: {', '.join(names())}."
            )
        chain.insert(0, _read(f"{base}.toml"))
    merged: dict[str, Any] = {}
    for part in chain:
        merged = _merge(merged, part)
    return merged


def _merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for key, value in above.items():
        inner = merged.get(key)
        if isinstance(value, dict) and isinstance(inner, dict):
            value = _merge(inner, value)
        merged[key] = value
    return merged


def _releases(target: Target) -> tuple[SystemRelease, ...]:
    """Releases of the vendor's system that run on the target's chip."""
    system = target.requires.system
    if system is None:
        return ()
    entries = _read(f"systems/{system}.toml").get("release", [])
    releases = (SystemRelease(**entry) for entry in entries)
    return tuple(release for release in releases if target.board.compatible in release.boards)


def _read(file: str) -> dict[str, Any]:
    try:
        return tomli.loads((_folder() / file).read_text("utf-8"))
    except (OSError, UnicodeDecodeError, tomli.TOMLDecodeError) as error:
        raise ConfigError(f"The targets' {file} cannot be read: {error}. Mend the file.") from error


def _folder() -> Path:
    """Folder of the targets' files: inside an installed package, beside it in a checkout."""
    here = Path(__file__).parent
    packaged = here / "targets_data"
    return packaged if packaged.is_dir() else here.parent / "deploy" / "targets"
