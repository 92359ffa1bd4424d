"""Disks that are small, full, or refuse to be written. Mounting takes root."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from faults.fault_injector import FILLER, fill


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Path]:
    """Yield a folder that is a disk of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    _run("mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder))
    try:
        yield folder
    finally:
        _run("umount", str(folder))


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Have every write below a folder refused, root's too."""
    _run("mount", "--bind", str(folder), str(folder))
    try:
        _run("mount", "-o", "remount,ro,bind", str(folder))
        yield
    finally:
        _run("umount", str(folder))


def leave(folder: Path, free: int) -> None:
    """Fill a folder's disk until about `free` bytes are left: a disk counts in blocks."""
    path = folder / FILLER
    fill(path)
    os.truncate(path, max(0, path.stat().st_size - free))


def heal(folder: Path) -> None:
    """Take away what fills a disk."""
    (folder / FILLER).unlink(missing_ok=True)


def _run(*command: str) -> None:
    subprocess.run(command, check=True)
