"""Sockets of a service: where it listens, and how the next release gets them, clients included.

A switch executes another program in the same process. Open sockets survive that: the next release
finds their descriptors, and what was read of an unfinished line, in a file in memory. So clients
wait for it; none is refused or disconnected.
"""

from __future__ import annotations

import json
import os
import socket
import stat
import sys
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from edgedistill.errors import MachineError, UsageError

_SOCKET_MODE = 0o660
_HANDED_OVER = "EDGEDISTILL_SOCKETS"  # process and descriptor of the file with its sockets
_THIS_MODULE: Final = "edgedistill/device/predict/sockets.py"


@dataclass(frozen=True, slots=True)
class Address:
    """Address to listen at: a path, or a host and a port."""

    path: Path | None = None
    host: str = ""
    port: int = 0

    def __str__(self) -> str:
        if self.path is not None:
            return f"unix:{self.path}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def to_address(text: str) -> Address:
    """Parse `unix:PATH` or `HOST:PORT`.

    Raises:
        UsageError: it is neither.

    >>> str(to_address("[::1]:5000"))
    '[::1]:5000'
    """
    kind, separator, rest = text.partition(":")
    if kind == "unix" and rest:
        return Address(path=Path(rest))
    host, separator, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if separator and host and port.isascii() and port.isdecimal() and int(port) <= 65535:
        return Address(host=host, port=int(port))
    raise UsageError(
        f"{text!r} is no address. Give unix:PATH, or HOST:PORT such as 127.0.0.1:5000."
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenClient:
    """A connected client between two replies."""

    socket: socket.socket
    lines: int  # number of its lines so far
    rest: bytes  # of a line that has not ended
    is_too_long: bool  # whether that line is, so that nothing of it is kept
    is_authenticated: bool


def open_sockets(address: Address) -> tuple[socket.socket, list[OpenClient]]:
    """Return a listening socket and its clients: of the release before, or a new one with none.

    Raises:
        MachineError: the address is taken, or cannot be listened at.
    """
    try:
        found = _inherited()
        if found is None:
            found = (_unix(address.path) if address.path is not None else _tcp(address)), []
    except (OSError, UnicodeError) as error:  # the latter for a name that no host can have
        reason = getattr(error, "strerror", None) or error
        raise MachineError(
            f"Cannot listen at {address}: {reason}. Choose another address, or "
            "stop what listens there."
        ) from error
    found[0].setblocking(False)
    return found


def hand_over(listening: socket.socket, clients: Sequence[OpenClient]) -> None:
    """Keep sockets open for the program that this process will execute."""
    state = {
        "listening": _inheritable(listening),
        "clients": [
            {
                "socket": _inheritable(client.socket),
                "lines": client.lines,
                "rest": client.rest.decode("latin-1"),  # any byte is a character of it
                "is_too_long": client.is_too_long,
                "is_authenticated": client.is_authenticated,
            }
            for client in clients
        ],
    }
    descriptor = os.memfd_create("edgedistill-sockets", 0)
    with os.fdopen(descriptor, "w", encoding="utf-8", closefd=False) as file:
        json.dump(state, file)
    os.environ[_HANDED_OVER] = f"{os.getpid()} {descriptor}"


def next_program_takes_sockets() -> bool:
    """Whether the program that would be executed now knows of handed over sockets.

    One of an older release, after a rollback, does not: it would find its own address taken.
    """
    try:
        with zipfile.ZipFile(sys.argv[0]) as program:
            return _HANDED_OVER.encode() in program.read(_THIS_MODULE)
    except KeyError:
        return False
    except (OSError, zipfile.BadZipFile):  # these modules themselves, run with `-m`
        return True


def _inheritable(sock: socket.socket) -> int:
    sock.set_inheritable(True)
    return sock.detach()


def _inherited() -> tuple[socket.socket, list[OpenClient]] | None:
    """Return the sockets that the release before this one has handed over, if any."""
    process, _, descriptor = os.environ.pop(_HANDED_OVER, "").partition(" ")
    if process != str(os.getpid()):
        return None
    with os.fdopen(int(descriptor), encoding="utf-8") as file:
        file.seek(0)
        state = json.load(file)
    clients = [
        OpenClient(
            socket=_opened(each["socket"]),
            lines=each["lines"],
            rest=each["rest"].encode("latin-1"),
            is_too_long=each["is_too_long"],
            is_authenticated=each["is_authenticated"],
        )
        for each in state["clients"]
    ]
    return _opened(state["listening"]), clients


def _opened(descriptor: int) -> socket.socket:
    sock = socket.socket(fileno=descriptor)
    sock.set_inheritable(False)
    return sock


def _unix(path: Path) -> socket.socket:
    """Listen at a path; a stale socket of a killed service is removed."""
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if path.exists() and stat.S_ISSOCK(path.stat().st_mode):
            _refuse_if_alive(path)
            path.unlink()
        before = os.umask(0o777 & ~_SOCKET_MODE)
        try:
            listening.bind(str(path))
        finally:
            os.umask(before)
        listening.listen()
    except BaseException:
        listening.close()
        raise
    return listening


def _refuse_if_alive(path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            return
    raise OSError(None, "another process listens there")


def _tcp(address: Address) -> socket.socket:
    family, kind, protocol, _, place = socket.getaddrinfo(
        address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    listening = socket.socket(family, kind, protocol)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)  # clients inherit it
        listening.bind(place)
        listening.listen()
    except BaseException:
        listening.close()
        raise
    return listening


def bound_address(address: Address, listening: socket.socket) -> Address:
    """Return an address with the port that was free, where it named none."""
    if address.path is not None:
        return address
    host, port, *_ = listening.getsockname()
    return Address(host=host, port=port)
