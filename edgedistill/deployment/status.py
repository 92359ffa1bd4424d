"""Status of a board, rollback to the previous release, and its allowed signers."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Final

from edgedistill.deployment.board import BoardFacts, Program, probe
from edgedistill.deployment.connection import Connection, SshOptions, connect
from edgedistill.deployment.hosts import Host
from edgedistill.deployment.trust import read_trust, trust
from edgedistill.device.releases.layout import PROGRAM
from edgedistill.errors import EdgeDistillError, UsageError

_ROLLBACK_S: Final = 1800.0  # the previous release is checked, which may build an engine
# The program of the current release, or else of any: all of them work on the same root.
_FIND: Final = (
    f'for p in "$1/current/{PROGRAM}" "$1"/releases/*/{PROGRAM}; do '
    'if [ -f "$p" ]; then echo "$p"; exit 0; fi; done'
)


@dataclass(frozen=True, slots=True, kw_only=True)
class BoardStatus:
    """Status of a board; None is unknown, for the reason in `message`."""

    host: str
    code: int = 0  # exit code: 0, or that of the error
    message: str = ""
    current: str | None = None  # release that runs
    previous: str | None = None  # what a rollback returns to
    verdict: str | None = None  # of the current release, from its validation there
    signer: str | None = None  # who signed the current release; None: not verified
    program: str | None = None  # version of the device program that it came with
    switching: bool = False  # a switch was interrupted, and the next command there settles it
    releases: tuple[str, ...] = ()
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


async def rollback(host: Host, access: SshOptions) -> BoardStatus:
    """Roll a board back to its previous release, and return its status.

    An error of ours is recorded in it, not raised: there is no previous release, or it is not
    healthy any more and nothing was changed.
    """
    try:
        async with connect(host, access) as connection:
            ground = await probe(connection)
            program = await _program(connection, ground)
            if program is None:
                raise UsageError(f"{host} has no release in {ground.root} to return to.")
            words = ("releases", "--root", ground.root, "rollback")
            await program.call(*words, timeout_s=_ROLLBACK_S)
            return await _status(connection, ground)
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


async def _status(connection: Connection, facts: BoardFacts) -> BoardStatus:
    program = await _program(connection, facts)
    trusts = await read_trust(connection, facts.root) is not None
    name = connection.host.name
    if program is None:
        return BoardStatus(host=name, free_bytes=facts.free_bytes, trusts=trusts)
    listed = await program.call("releases", "--root", facts.root, "list")
    runs = {each["name"]: each for each in listed["releases"]}.get(listed["current"], {})
    version = await connection.run([facts.python, program.path, "--version"])
    return BoardStatus(
        host=name,
        current=listed["current"],
        previous=listed["previous"],
        verdict=runs.get("verdict"),
        signer=runs.get("signer"),
        program=version.stdout.strip().rpartition(" ")[2] or None,
        switching=listed["switching"],
        releases=tuple(each["name"] for each in listed["releases"]),
        free_bytes=facts.free_bytes,
        trusts=trusts,
    )


async def _program(connection: Connection, facts: BoardFacts) -> Program | None:
    found = await connection.run(["sh", "-c", _FIND, "sh", facts.root])
    path = found.stdout.strip()
    return Program(connection, facts.python, path) if path else None


def _failed(host: Host, error: EdgeDistillError) -> BoardStatus:
    return BoardStatus(host=host.name, code=error.exit_code, message=str(error))
