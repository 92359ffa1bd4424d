"""Status of a board, rollback to the previous release, and its allowed signers."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

from edgedistill.deployment.board import BoardFacts, Program, probe
from edgedistill.deployment.connection import Connection, SshOptions, connect
from edgedistill.deployment.hosts import Host
from edgedistill.deployment.payload import UploadFile, upload
from edgedistill.deployment.trust import read_trust, trust
from edgedistill.deployment.zipapp import write_program
from edgedistill.device.releases.layout import PROGRAM
from edgedistill.errors import EdgeDistillError, LostConnectionError, UsageError

_ROLLBACK_S: Final = 1800.0  # the previous release is checked, which may build an engine
# That of the current release comes first. All of them work on the same root.
_FIND: Final = (
    f'for p in "$1/current/{PROGRAM}" "$1"/releases/*/{PROGRAM}; do '
    'if [ -f "$p" ]; then echo "$p"; fi; done'
)


@dataclass(frozen=True, slots=True, kw_only=True)
class BoardStatus:
    """Status of a board; None is unknown, or there is none."""

    host: str
    code: int = 0  # exit code: 0, or that of the error
    message: str = ""  # of the error, or what is to be known: nothing to do, no trust any more
    current: str | None = None  # release that runs
    previous: str | None = None  # what a rollback returns to
    verdict: str | None = None  # of the current release, from its validation there
    signer: str | None = None  # who signed the current release; None: not verified
    program: str | None = None  # version of the device program that it came with
    rolled_back: str | None = None  # what the last rollback left, until another switch
    fallback: dict[str, str] | None = None  # time and reason, if the board did so by itself
    switching: bool = False  # a switch was interrupted, and the next command there settles it
    releases: tuple[str, ...] = ()
    untrusted: tuple[str, ...] = ()  # releases whose signer is no longer trusted
    free_bytes: int | None = None
    trusts: bool | None = None  # whether it has a file of allowed signers

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return asdict(self)


async def status(host: Host, access: SshOptions) -> BoardStatus:
    """Return the status of a board; an `EdgeDistillError` is recorded in it, not raised."""
    try:
        async with connect(host, access) as connection:
            return await _status(connection, await probe(connection))
    except EdgeDistillError as error:
        return _failed(host, error)


async def rollback(host: Host, access: SshOptions, *, to: str | None = None) -> BoardStatus:
    """Roll a board back to its previous release, and return its status.

    Repeated, it changes nothing, and says so in `message`. An error of ours is recorded, not
    raised: there is no previous release, or it is not healthy any more and nothing was changed.

    Args:
        host: board to roll back.
        access: SSH options of the board.
        to: release to return to; None: the one that ran before.
    """
    try:
        async with connect(host, access) as connection:
            facts = await probe(connection)
            found = await _roll_back(connection, facts, to)
            status = await _status(connection, facts)
            if found == "unchanged":
                return replace(status, message=f"{_already(status)} {status.message}".rstrip())
            return status
    except EdgeDistillError as error:
        return _failed(host, error)


async def set_trust(host: Host, access: SshOptions, signers: str) -> BoardStatus:
    """Replace the allowed signers of a board, and return its status."""
    try:
        async with connect(host, access) as connection:
            ground = await probe(connection)
            await trust(connection, ground.root, signers)
            return await _status(connection, ground)
    except EdgeDistillError as error:
        return _failed(host, error)


async def _roll_back(connection: Connection, facts: BoardFacts, to: str | None) -> str:
    """Roll back by a program that can do so repeatedly, and return the outcome."""
    programs = await _programs(connection, facts)
    if not programs:
        raise UsageError(f"{connection.host} has no release in {facts.root} to return to.")
    for program in programs:
        listed = await _listing(program, facts)
        if "rolled_back" in listed:
            break
    else:  # damaged ones, or those of 0.1.0, whose second rollback undoes the first
        program = await _bring_program(connection, facts)
        listed = await program.call("releases", "--root", facts.root, "list")
    target = to or listed["previous"]
    names = {"--from": listed["current"], "--to": target}
    words = [word for option, name in names.items() if name for word in (option, name)]
    if target is None or (listed["switching"] and to is None):  # the board knows what it was about
        words = []
    done = await program.call(
        *("releases", "--root", facts.root, "rollback", *words), timeout_s=_ROLLBACK_S
    )
    return str(done["outcome"])


async def _listing(program: Program, facts: BoardFacts) -> dict[str, Any]:
    """Return the releases as a program lists them, nothing if it is damaged."""
    try:
        return await program.call("releases", "--root", facts.root, "list")
    except LostConnectionError:
        raise
    except EdgeDistillError:
        return {}


async def _bring_program(connection: Connection, facts: BoardFacts) -> Program:
    with tempfile.TemporaryDirectory(prefix="edgedistill-") as scratch:
        path = Path(scratch) / PROGRAM
        write_program(path)
        found = await upload(
            connection, UploadFile.of(path), f"{facts.root}/incoming", lambda *_: None
        )
    return Program(connection, facts.python, found.path)


def _already(status: BoardStatus) -> str:
    left, host = status.rolled_back, status.host
    again = f" {left} was left before; to run it: rollback {host} --to {left}." if left else ""
    return f"{host}: {status.current} runs already, and nothing was changed.{again}"


async def _status(connection: Connection, facts: BoardFacts) -> BoardStatus:
    programs = await _programs(connection, facts)
    trusts = await read_trust(connection, facts.root) is not None
    name = connection.host.name
    if not programs:
        return BoardStatus(host=name, free_bytes=facts.free_bytes, trusts=trusts)
    for program in programs:
        listed = await _listing(program, facts)
        if listed:
            break
    else:
        listed = await programs[0].call("releases", "--root", facts.root, "list")  # its error
    entries = {each["name"]: each for each in listed["releases"]}
    runs = entries.get(listed["current"], {})
    version = await connection.run([facts.python, program.path, "--version"])
    return BoardStatus(
        host=name,
        message=_warnings(name, listed["current"], entries),
        current=listed["current"],
        previous=listed["previous"],
        verdict=runs.get("verdict"),
        signer=runs.get("signer"),
        program=version.stdout.strip().rpartition(" ")[2] or None,
        rolled_back=listed.get("rolled_back"),  # 0.1.0 does not list it
        fallback=listed.get("fallback"),
        switching=listed["switching"],
        releases=tuple(entries),
        untrusted=tuple(key for key, each in entries.items() if each.get("trusted") is False),
        free_bytes=facts.free_bytes,
        trusts=trusts,
    )


def _warnings(host: str, current: str | None, entries: Mapping[str, Mapping[str, Any]]) -> str:
    """Return what is wrong with the current release, in sentences; empty if nothing is."""
    if current is None:
        return ""
    if current not in entries:
        return (
            f"{host}: {current} is current, and its folder is gone. Run `edgedistill rollback "
            f"{host}`: the board returns to the last release that runs."
        )
    if entries[current].get("trusted") is False:
        return (
            f"{host}: {current} runs, and its signer {entries[current]['signer']} IS NO LONGER "
            "TRUSTED there: removed, revoked or expired. Deploy a bundle of a trusted signer."
        )
    return ""


async def _programs(connection: Connection, facts: BoardFacts) -> list[Program]:
    found = await connection.run(["sh", "-c", _FIND, "sh", facts.root])
    return [Program(connection, facts.python, path) for path in found.stdout.splitlines()]


def _failed(host: Host, error: EdgeDistillError) -> BoardStatus:
    return BoardStatus(host=host.name, code=error.exit_code, message=str(error))
