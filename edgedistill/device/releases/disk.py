"""Durable changes on a board's disk: links that are replaced in one step, and flushes."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from edgedistill.io import files


def point(link: Path, target: str) -> None:
    """Create or replace a symbolic link: the old or the new one always exists.

    A link beside it with the same target is used again, which takes no space: a full disk must
    not stop a rollback.

    Args:
        link: path of the link, in an existing folder.
        target: target relative to the link's folder.

    Raises:
        MachineError: the disk is full or read-only, or `link` is a folder.
    """
    with files.translate_os_errors(link):
        beside = link.with_name(f".{link.name}.new")
        beside.unlink(missing_ok=True)  # left by a killed process
        _link(beside, target)
        beside.replace(link)
        beside.unlink(missing_ok=True)  # a rename to another name of the same link does nothing
        flush(link.parent)


def _link(path: Path, target: str) -> None:
    for other in path.parent.iterdir():
        if other.is_symlink() and str(other.readlink()) == target:
            with suppress(OSError):  # a file system that gives a link one name only
                os.link(other, path, follow_symlinks=False)
                return
    path.symlink_to(target)


def remove(path: Path) -> None:
    """Remove a file or a link durably; a missing one is no error.

    Raises:
        MachineError: the disk is read-only.
    """
    with files.translate_os_errors(path):
        path.unlink(missing_ok=True)
        flush(path.parent)


def flush(path: Path) -> None:
    """Make a file's content, or a folder's list of names, survive a power cut."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def flush_all(folder: Path) -> None:
    """Flush a folder and everything below it."""
    for place, _, names in os.walk(folder):
        for name in names:
            flush(Path(place) / name)
        flush(Path(place))
