"""One deployment to a board at a time: a lock there that lives as long as its connection does.

Each command of the device program takes a lock of its own. But an upload is none of them, and two
workstations must not write the same file. A process on the board holds this lock; it lets go when
its input ends, or stays silent because the line is dead.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Final, TypeAlias

import asyncssh

from edgedistill.deployment.connection import Connection, translate_ssh_errors
from edgedistill.errors import MachineError

Process: TypeAlias = "asyncssh.SSHClientProcess[bytes]"

BUSY: Final = "Another deployment to"  # begins the refusal
_BEAT_S, _SILENCE_S = 4, 20
_CLOSE_S: Final = 3.0
_HELD: Final = b"held\n"
_TAKEN: Final = 5
# The last holder may only just have died, so it is tried for some seconds. A board without flock
# is deployed to without a lock.
_HOLD: Final = (
    'mkdir -p -- "$1" && cd -- "$1" && exec 9>>deploying || exit 1; '
    "tries=0; while command -v flock >/dev/null && ! flock -n 9; do "
    f"tries=$((tries + 1)); if [ $tries -gt 30 ]; then cat deploying; exit {_TAKEN}; fi; "
    "sleep 0.1; done; "
    'echo "process $$" >deploying; echo held; '
    'while [ -n "$(timeout "$2" dd bs=1 count=1 2>/dev/null)" ]; do :; done'
)


@asynccontextmanager
async def board_lock(connection: Connection, root: str) -> AsyncIterator[None]:
    """Hold a board's lock against other deployments.

    Args:
        connection: open connection; the lock ends with it.
        root: root on the board, absolute; created if missing.

    Raises:
        LostConnectionError: the connection broke off.
        MachineError: another deployment is under way, or the root cannot be written.
    """
    with translate_ssh_errors(connection.host):
        process = await connection.start(["sh", "-c", _HOLD, "sh", root, str(_SILENCE_S)])
        line = await process.stdout.readline()
        if line != _HELD:
            await _refuse(connection, process, line, root)
    beating = asyncio.ensure_future(_beat(process))
    try:
        yield
    finally:
        beating.cancel()
        await _release(process)


async def _beat(process: Process) -> None:
    with suppress(OSError):  # the work itself meets whatever has ended the connection
        while True:
            process.stdin.write(b".")
            await asyncio.sleep(_BEAT_S)


async def _release(process: Process) -> None:
    """End the input, and wait a little until the lock is free again."""
    with suppress(OSError, asyncio.TimeoutError):
        process.stdin.write_eof()
        await asyncio.wait_for(process.wait_closed(), _CLOSE_S)
    process.close()


async def _refuse(connection: Connection, process: Process, stdout: bytes, root: str) -> None:
    stderr = (await process.stderr.read()).decode(errors="replace").strip()
    await process.wait_closed()
    host = connection.host
    if process.returncode == _TAKEN:
        holder = stdout.decode(errors="replace").strip()
        raise MachineError(
            f"{BUSY} {host} is under way ({holder or 'process unknown'} there). Wait until it is "
            "done, and deploy again."
        )
    if process.returncode is None:
        raise ConnectionResetError("a command was cut short")
    raise MachineError(
        f"{root} cannot be written on {host}: {stderr}. Look at the free space and at who may "
        "write there."
    )
