"""Allowed signers of a board: the file in its root that its trust rests on.

A person sets it up once. A deployment never changes it: else the deploying side would also choose
whose signature counts.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Final

from edgedistill.deployment.connection import Connection
from edgedistill.device.releases.layout import ALLOWED_SIGNERS
from edgedistill.errors import IntegrityError, MachineError, UsageError

_ABSENT: Final = 3
_READ: Final = f'test -f "$1" || exit {_ABSENT}; cat -- "$1"'
# A cut ends the input as its end does, so only what has the right hash takes the place.
_WRITE: Final = (
    'mkdir -p -- "$1" && cd -- "$1" || exit 1; new=".$2.$$"; cat >"$new"; '
    'case "$(sha256sum <"$new")" in "$3"*) sync "$new" && mv -f -- "$new" "$2" ;; '
    '*) rm -f -- "$new"; echo "it did not arrive whole" >&2; exit 1 ;; esac'
)
_FIELDS: Final = 3  # principals, kind of key, key; options may stand between


def read_signers(path: Path) -> str:
    """Return the text of a file of allowed signers.

    Raises:
        UsageError: it cannot be read, or lists no signer.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"The allowed signers in {path} cannot be read: {error}.") from error
    lines = [line.split() for line in text.splitlines() if line.strip() and line[0] != "#"]
    if not lines or any(len(line) < _FIELDS for line in lines):
        raise UsageError(
            f"{path} is no file of allowed signers. A line has a name and a public key, such as: "
            "me@example.org ssh-ed25519 AAAAC3..."
        )
    return text


async def read_trust(connection: Connection, root: str) -> str | None:
    """Return the board's file of allowed signers, None if it has none.

    Raises:
        LostConnectionError: the connection broke off.
        MachineError: it cannot be read.
    """
    place = f"{root}/{ALLOWED_SIGNERS}"
    found = await connection.run(["sh", "-c", _READ, "sh", place])
    if found.code == _ABSENT:
        return None
    if found.code:
        raise MachineError(f"{connection.host}: {place} cannot be read: {found.stderr.strip()}.")
    return found.stdout


async def trust(connection: Connection, root: str, signers: str) -> None:
    """Replace the board's file of allowed signers, whole or not at all.

    Raises:
        LostConnectionError: the connection broke off.
        MachineError: it cannot be written.
    """
    digest = hashlib.sha256(signers.encode()).hexdigest()
    words = ["sh", "-c", _WRITE, "sh", root, ALLOWED_SIGNERS, digest]
    done = await connection.run(words, stdin=signers)
    if done.code:
        raise MachineError(
            f"{connection.host}: {root}/{ALLOWED_SIGNERS} cannot be written: "
            f"{done.stderr.strip()}. Look at the free space and at who may write there."
        )


async def require_trust(connection: Connection, root: str, signers: str | None) -> None:
    """Check the allowed signers of a board; one without any gets `signers`.

    Args:
        connection: open connection.
        root: root on the board, absolute.
        signers: allowed signers for boards without any, or None.

    Raises:
        IntegrityError: it has no signers and none are given, or it has others.
        MachineError: the file there cannot be read or written.
    """
    found = await read_trust(connection, root)
    host = connection.host
    if found is None and signers is None:
        raise IntegrityError(
            f"{host} trusts no signer yet. Say once whom it trusts: `edgedistill trust {host} "
            "--allowed-signers FILE`, or deploy with --allowed-signers FILE. To go without "
            "signatures, deploy with --unsigned."
        )
    if found is None and signers is not None:
        await trust(connection, root, signers)
    elif signers is not None and found != signers:
        raise IntegrityError(
            f"{host} trusts other signers than the named file lists, and a deployment does not "
            f"change that. Leave --allowed-signers out, or set it anew: `edgedistill trust {host} "
            "--allowed-signers FILE`."
        )
