"""Boards of a deployment: their addresses, and the inventory of a fleet, boards.toml.

::

    [defaults]                # of every board without a value of its own
    user = "pi"

    [boards.kitchen]
    host = "192.168.1.20"
    groups = ["home", "test"]
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import unquote

import tomli
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from edgedistill.errors import ConfigError, UsageError, brief

ROOT: Final = "~/edgedistill"
PYTHON: Final = "python3"
_SCHEME: Final = "ssh://"
_ADDRESS = re.compile(
    r"(?:(?P<user>[^\s-]\S*)@)?(?:\[(?P<bracketed>[^\]\s]+)\]|(?P<name>[^@:\[\]\s/]+))(?::(?P<port>\d+))?"
)
_LAST_PORT = 65_535


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """A board of the command line or inventory; None leaves it to the SSH configuration."""

    name: str  # unique in a fleet
    address: str  # a host name, an IP address, or an alias of the SSH configuration
    user: str | None = None
    port: int | None = None
    root: str = ROOT  # folder on the board; ~ is the user's home there
    python: str | None = None  # interpreter on the board; None: the one that validated what runs
    target: str | None = None  # what it should be, by the name of a target

    def __post_init__(self) -> None:
        if self.address.startswith("-") or not self.address:
            raise UsageError(
                f"{self.address!r} is no host's name. Give user@host or user@host:port."
            )
        if self.port is not None and not 0 < self.port <= _LAST_PORT:
            raise UsageError(
                f"Port {self.port} of {self.address} is none: ports go from 1 to {_LAST_PORT}."
            )

    def __str__(self) -> str:
        return self.name


def parse(
    text: str, *, root: str = ROOT, python: str | None = None, target: str | None = None
) -> Host:
    """Parse `user@host:port` or `ssh://user@host:port`; user and port may be left out.

    Args:
        text: address of the board; an IPv6 address with a port needs brackets, and a user may
            have an @: the last one splits, as for `ssh`.
        root: folder on the board.
        python: interpreter on the board; None: the one that validated what runs there.
        target: name of a target.

    Raises:
        UsageError: it names no host.

    >>> host = parse("pi@board.local:2222")
    >>> host.user, host.address, host.port
    ('pi', 'board.local', 2222)
    >>> parse("[fe80::1]:22").address, parse("fe80::1").address
    ('fe80::1', 'fe80::1')
    """
    is_uri = text.lower().startswith(_SCHEME)
    address = text[len(_SCHEME) :].removesuffix("/") if is_uri else text
    user, _, rest = address.rpartition("@")
    if is_uri:
        user = unquote(user)
    if rest.count(":") > 1 and "[" not in rest:  # an IPv6 address alone
        rest = f"[{rest}]"
    found = _ADDRESS.fullmatch(f"{user}@{rest}" if user else rest)
    if not found or address.startswith("@"):
        raise UsageError(f"{text!r} names no board. Give user@host, or user@host:port.")
    return Host(
        name=text,
        address=found["bracketed"] or found["name"],
        user=found["user"],
        port=int(found["port"]) if found["port"] else None,
        root=root,
        python=python,
        target=target,
    )


class _Settings(BaseModel):
    """Settings of one board, or of all."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    user: str | None = None
    port: int | None = Field(None, ge=1, le=65_535)
    root: str | None = None
    python: str | None = None
    target: str | None = None
    groups: list[str] = []


class _Entry(_Settings):
    host: str | None = None  # None: the board's name is its address too


class _Inventory(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    defaults: _Settings = _Settings()
    boards: dict[str, _Entry] = Field(min_length=1)


def read_inventory(
    path: Path, *, names: Collection[str] = (), group: str | None = None
) -> list[Host]:
    """Return the boards of an inventory, in its order.

    Args:
        path: path of the TOML file.
        names: names of the boards to return; empty: all.
        group: group of the boards to return; None: all.

    Raises:
        ConfigError: the file cannot be read or makes no sense, or there is no such group or board.
    """
    try:
        found = _Inventory.model_validate(tomli.loads(path.read_text("utf-8")))
    except (OSError, UnicodeDecodeError, tomli.TOMLDecodeError, RecursionError) as error:
        raise ConfigError(f"The inventory {path} cannot be read: {error}.") from error
    except ValidationError as error:
        raise ConfigError(f"The inventory {path} makes no sense. {_messages(error)}") from error
    boards = found.boards.items()
    if group is not None:
        _check_known(path, "group", group, _groups(found))
        boards = {n: b for n, b in boards if group in (*b.groups, *found.defaults.groups)}.items()
    for name in names:
        _check_known(path, "board", name, [name for name, _ in boards])
    return [_host(n, board, found.defaults) for n, board in boards if not names or n in names]


def _host(name: str, board: _Entry, defaults: _Settings) -> Host:
    return Host(
        name=name,
        address=board.host or name,
        user=board.user or defaults.user,
        port=board.port or defaults.port,
        root=board.root or defaults.root or ROOT,
        python=board.python or defaults.python,
        target=board.target or defaults.target,
    )


def _groups(inventory: _Inventory) -> list[str]:
    entries = (inventory.defaults, *inventory.boards.values())
    return sorted({name for entry in entries for name in entry.groups})


def _check_known(path: Path, what: str, name: str, available: Sequence[str]) -> None:
    if name not in available:
        near = difflib.get_close_matches(name, available, n=1)
        hint = f"Did you mean {near[0]}? " if near else ""
        there = f"There are: {', '.join(available)}." if available else "There are none at all."
        raise ConfigError(f"{path} has no {what} {name!r} to choose. {hint}{there}")


def _messages(error: ValidationError) -> str:
    """Return the validation errors, a sentence each, by the keys of the file."""
    messages = []
    for each in error.errors():
        place = ".".join(map(str, each["loc"]))
        if each["type"] == "extra_forbidden":
            near = difflib.get_close_matches(str(each["loc"][-1]), _Entry.model_fields, n=1)
            messages.append(
                f"{place} is not known." + (f" Did you mean {near[0]}?" if near else "")
            )
        elif each["type"] == "missing":
            messages.append(f"{place} is missing.")
        else:
            messages.append(f"{place} is {brief(each['input'])}: {each['msg'].lower()}.")
    return " ".join(messages)
