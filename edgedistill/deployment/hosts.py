"""Addresses of boards, and the places of root and Python on them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from edgedistill.errors import UsageError

ROOT: Final = "~/edgedistill"
PYTHON: Final = "python3"
_ADDRESS = re.compile(
    r"(?:(?P<user>[^@\s]+)@)?(?:\[(?P<bracketed>[^\]\s]+)\]|(?P<name>[^@:\[\]\s]+))(?::(?P<port>\d+))?"
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
    python: str = PYTHON  # interpreter on the board
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


def parse(text: str, *, root: str = ROOT, python: str = PYTHON, target: str | None = None) -> Host:
    """Parse `user@host:port`; user and port may be left out.

    Args:
        text: address of the board; an IPv6 address with a port needs brackets.
        root: folder on the board.
        python: interpreter on the board.
        target: name of a target.

    Raises:
        UsageError: it names no host.

    >>> host = parse("pi@board.local:2222")
    >>> host.user, host.address, host.port
    ('pi', 'board.local', 2222)
    >>> parse("[fe80::1]:22").address, parse("fe80::1").address
    ('fe80::1', 'fe80::1')
    """
    user, _, rest = text.rpartition("@")
    if rest.count(":") > 1 and "[" not in rest:  # an IPv6 address alone
        rest = f"[{rest}]"
    found = _ADDRESS.fullmatch(f"{user}@{rest}" if user else rest)
    if not found or text.startswith("@"):
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
