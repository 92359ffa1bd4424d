"""Lock of a root: one command at a time changes its releases; and the lease of a deployment.

A deployment from elsewhere consists of many commands. Its lock is the file `deploying`, which
names its last holder by a token, and a command with another token is refused.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from edgedistill.device.releases.layout import Root
from edgedistill.errors import MachineError
from edgedistill.io import files


@contextmanager
def file_lock(path: Path, *, name_holder: bool = True) -> Iterator[None]:
    """Hold the lock in a file; the system releases it when the process ends, however it does.

    Args:
        path: path of the file; created if missing.
        name_holder: write the number of this process to it.

    Raises:
        MachineError: another process holds it, or the file cannot be written.
    """
    with files.translate_os_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        stream = path.open("ab", buffering=0)
    with stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise MachineError(
                f"Another command is changing {path.parent} ({_holder(path)}). Wait until it is "
                "done, and run again."
            ) from None
        if not name_holder:
            yield
            return
        with suppress(OSError):  # the name is a courtesy: a full disk must not stop a rollback
            stream.truncate(0)
            stream.write(f"{os.getpid()}\n".encode())
        yield


def check_lease(root: Root, token: str) -> None:
    """Refuse a deployment that another one, or a rollback, took over from; the caller locks.

    Raises:
        MachineError: the token is not that of the last holder.
    """
    text = _read(root.deploying)
    if token not in text.split():
        raise MachineError(
            f"{describe_holder(text)} took over this board from the deployment that runs this. "
            "Nothing was changed. Look at what runs, and deploy again if it is to go."
        )


def revoke_lease(root: Root) -> None:
    """Take the lease of the deployment that is under way, if any; the caller locks.

    Raises:
        MachineError: the disk is read-only.
    """
    with files.translate_os_errors(root.deploying), suppress(FileNotFoundError):
        os.truncate(root.deploying, 0)
        with suppress(OSError):  # a full disk: only the name is missing
            root.deploying.write_text("rollback\n", encoding="utf-8")


def describe_holder(text: str) -> str:
    """Return the holder of a lease in words, from the text of its file.

    >>> describe_holder("process 12 0a1b2c3d me@laptop")
    'me@laptop, process 12 there'
    >>> describe_holder("process 12"), describe_holder("rollback"), describe_holder("")
    ('process 12 there', 'A rollback', 'process unknown')
    """
    match text.split():
        case ["rollback"]:
            return "A rollback"
        case ["process", number, _, user]:
            return f"{user}, process {number} there"
        case ["process", number]:
            return f"process {number} there"
        case _:
            return "process unknown"


def _holder(path: Path) -> str:
    """Return the holder of a lock, as text; its number may not be written yet."""
    text = _read(path).strip()
    return f"process {text}" if text.isdecimal() else "process unknown"


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return ""
