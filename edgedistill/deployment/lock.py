"""One deployment to a board at a time: a lock there that lives as long as its connection does.

Each command of the device program takes a lock of its own. But an upload is none of them, and two
workstations must not write the same file. A process on the board holds this lock; it lets go when
its input ends, or stays silent because the line is dead or the workstation asleep. So a holder may
have lost the lock without knowing. The file that is locked names the last holder by a token, each
step asks for it, and the board's program changes nothing for another one.
"""

from __future__ import annotations

import asyncio
import getpass
import re
import secrets
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Final

from edgedistill.deployment.connection import Connection, translate_ssh_errors
from edgedistill.deployment.remote_command import RemoteCommand
from edgedistill.device.releases.lock import describe_holder
from edgedistill.errors import MachineError

BUSY: Final = "Another deployment to"  # begins the refusal
_BEAT_S, _SILENCE_S = 4, 20
_CLOSE_S: Final = 3.0
_HELD: Final = b"held\n"
_TAKEN, _LOST = 5, 7
# The last holder may only just have died, so it is tried for some seconds. A board without flock
# is deployed to without a lock. A holder that comes back must find its own token.
_HOLD: Final = (
    'mkdir -p -- "$1" && cd -- "$1" && exec 9>>deploying || exit 1; '
    "tries=0; while command -v flock >/dev/null && ! flock -n 9; do "
    f"tries=$((tries + 1)); if [ $tries -gt 30 ]; then cat deploying; exit {_TAKEN}; fi; "
    "sleep 0.1; done; "
    'if [ "$5" = again ] && ! grep -qF -- "$3" deploying; then '
    f"cat deploying; exit {_LOST}; fi; "
    'echo "process $$ $3 $4" >deploying || exit 1; echo held; '
    'while word=$(timeout "$2" dd bs=1 count=1 2>/dev/null) && [ -n "$word" ]; do '
    'if [ "$word" = "?" ]; then echo held; fi; done'
)


def _user() -> str:
    """Return who deploys, in letters that a line of the lock's file can hold."""
    with suppress(KeyError, OSError):  # there is no such user
        return re.sub(r"[^\w.@-]+", "-", f"{getpass.getuser()}@{socket.gethostname()}")
    return "somebody"


@dataclass(slots=True)
class Lease:
    """The right of a deployment to change a board, over all its connections."""

    token: str = field(default_factory=lambda: secrets.token_hex(8))
    user: str = field(default_factory=_user)
    held_before: bool = False


@dataclass(frozen=True, slots=True)
class Holder:
    """The process on the board that holds its lock."""

    connection: Connection
    process: RemoteCommand

    async def check(self) -> None:
        """Ask whether the lock is still held.

        Raises:
            LostConnectionError: it is not: this side was silent for too long.
        """
        with translate_ssh_errors(self.connection.host):
            self.process.write(b"?")
            if await self.process.readline() != _HELD:
                raise ConnectionResetError("this side was silent, and its lock there has ended")


@asynccontextmanager
async def board_lock(connection: Connection, root: str, lease: Lease) -> AsyncIterator[Holder]:
    """Hold a board's lock against other deployments.

    Args:
        connection: open connection; the lock ends with it.
        root: root on the board, absolute; created if missing.
        lease: lease of the deployment. One that was held before is refused if it has passed on.

    Raises:
        LostConnectionError: the connection broke off.
        MachineError: another deployment is under way or took over, or the root cannot be written.
    """
    words = [root, str(_SILENCE_S), lease.token, lease.user, "again" if lease.held_before else ""]
    with translate_ssh_errors(connection.host):
        process = await connection.start(["sh", "-c", _HOLD, "sh", *words])
        line = await process.readline()
        if line != _HELD:
            await _refuse(connection, process, line, root, lease)
    lease.held_before = True
    beating = asyncio.ensure_future(_beat(process))
    try:
        yield Holder(connection, process)
    finally:
        beating.cancel()
        await _release(process)


async def _beat(process: RemoteCommand) -> None:
    with suppress(OSError):  # the work itself meets whatever has ended the connection
        while True:
            process.write(b".")
            await asyncio.sleep(_BEAT_S)


async def _release(process: RemoteCommand) -> None:
    """End the input, and wait a little until the lock is free again."""
    with suppress(OSError, asyncio.TimeoutError):
        await asyncio.wait_for(process.wait_closed(), _CLOSE_S)
    process.close()


async def _refuse(
    connection: Connection, process: RemoteCommand, stdout: bytes, root: str, lease: Lease
) -> None:
    host, found = connection.host, await process.result()
    if found is None:
        raise ConnectionResetError("a command was cut short")
    text = stdout.decode(errors="replace").strip()
    if found.code in {_TAKEN, _LOST} and lease.held_before and lease.token not in text:
        raise MachineError(
            f"{describe_holder(text)} took over {host} while this deployment was silent. What it "
            f"left there stays as it is: see `edgedistill status {host}`, and deploy again if this "
            "bundle is to run."
        )
    if found.code == _TAKEN:
        raise MachineError(
            f"{BUSY} {host} is under way ({describe_holder(text)}). Wait until it is done, and "
            "deploy again."
        )
    raise MachineError(
        f"{root} cannot be written on {host}: {found.stderr.strip()}. Look at the free space and "
        "at who may write there."
    )
