"""What a board's disk must keep when the power goes: links that are turned in one step."""

from __future__ import annotations

import os
from pathlib import Path

from edgedistill.io import files


def point(link: Path, target: str) -> None:
    """Make a symbolic link or turn the one that is there: the old or the new one always stands.

    Args:
        link: whose folder exists.
        target: relative to the link's folder.

    Raises:
        MachineError: the disk is full or read-only, or `link` is a folder.
    """
    with files.translate_os_errors(link):
        beside = link.with_name(f".{link.name}.new")
        beside.unlink(missing_ok=True)  # of one who was killed here
        beside.symlink_to(target)
        beside.replace(link)
        flush(link.parent)


def remove(path: Path) -> None:
    """Remove a file or a link, for good; one that is not there is no error.

    Raises:
        MachineError: the disk is read-only.
    """
    with files.translate_os_errors(path):
        path.unlink(missing_ok=True)
        flush(path.parent)


def flush(path: Path) -> None:
    """Have a file's content, or which names a folder holds, outlast a power cut."""
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
