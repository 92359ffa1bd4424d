"""The facts of a board, told by the device program: here, or carried there for the question."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from edgedistill.deployment.connection import CommandResult, Connection
from edgedistill.deployment.doctor.finding import Facts
from edgedistill.deployment.hosts import ROOT
from edgedistill.deployment.zipapp import NAME, write_program
from edgedistill.device import doctor
from edgedistill.errors import MachineError

_NOT_FOUND = 127  # what a shell answers for a program that is not there
_PATIENCE_S = 300.0  # five probes of a minute at most: a slow board imports for long
_PREPARE = 'mktemp -d && echo "$HOME"'


def collect_here(root: str = ROOT) -> Facts:
    """Return the facts of this machine, for the Python that runs this."""
    return doctor.facts(Path(root))


async def collect_from_board(connection: Connection) -> Facts:
    """Return the facts of a board; nothing of it stays there.

    Raises:
        MachineError: the board has no Python that is new enough, or cannot be asked.
    """
    host = connection.host
    made = await connection.run(["sh", "-c", _PREPARE])
    if made.code:
        raise MachineError(
            f"{host}: {_last(made)}. Make room below /tmp there, or say in TMPDIR where there is."
        )
    folder, home = made.stdout.splitlines()[-2:]
    try:
        with tempfile.TemporaryDirectory(prefix="edgedistill-") as scratch:
            program = Path(scratch) / NAME
            write_program(program)
            async with connection.sftp() as sftp:
                await sftp.put(str(program), f"{folder}/{NAME}")
        return await _run_probe(connection, f"{folder}/{NAME}", home)
    finally:
        await connection.run(["rm", "-r", folder])


async def _run_probe(connection: Connection, program: str, home: str) -> Facts:
    host = connection.host
    python = f"{home}{host.python[1:]}" if host.python.startswith("~/") else host.python
    answer = await connection.run(
        [python, program, "doctor", "--root", host.root, "--json"], timeout_s=_PATIENCE_S
    )
    if answer.code == _NOT_FOUND:
        raise MachineError(
            f"{host} has no {host.python}. Install it there with: sudo apt-get install --yes "
            "python3, or name another one with --python."
        )
    if answer.code:
        raise MachineError(f"{host} cannot tell what it has: {_last(answer)}")
    facts: Facts = json.loads(answer.stdout)
    return facts


def _last(result: CommandResult) -> str:
    return result.stderr.strip().rpartition("\n")[2] or f"exit code {result.code}"
