"""Lock of a root: one command at a time changes its releases."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from edgedistill.errors import MachineError
from edgedistill.io import files


@contextmanager
def file_lock(path: Path) -> Iterator[None]:
    """Hold the lock in a file; the system releases it when the process ends, however it does.

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
        with suppress(OSError):  # the name is a courtesy: a full disk must not stop a rollback
            stream.truncate(0)
            stream.write(f"{os.getpid()}\n".encode())
        yield


def _holder(path: Path) -> str:
    """Return the holder of a lock, as text; its number may not be written yet."""
    text = path.read_text(encoding="utf-8", errors="replace").strip()
    return f"process {text}" if text.isdecimal() else "process unknown"
