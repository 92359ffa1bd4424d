"""What is installed on a board, and what runs."""

from __future__ import annotations

from typing import Any

from edgedistill.device.releases.layout import REPORT, Root, linked_release
from edgedistill.errors import DataError, IntegrityError
from edgedistill.io import files
from edgedistill.report import from_json


def listing(root: Root) -> dict[str, Any]:
    """Return the releases of a root, as JSON values.

    Returns:
        `root`; `current` and `previous`, names or None; `switching`, whether a switch was
        interrupted; `releases`, each with what its record says, `path`, and `verdict`, which is
        None before a validation; a damaged one has `damage` instead of its record.

    Raises:
        IntegrityError: `current` or `previous` leads to no release.
    """
    return {
        "root": str(root.path),
        "current": linked_release(root.current),
        "previous": linked_release(root.previous),
        "switching": root.journal.exists(),
        "releases": [_entry(root, name) for name in root.names()],
    }


def _entry(root: Root, name: str) -> dict[str, Any]:
    folder = root.folder(name)
    try:
        facts = root.release(name).to_dict()
    except IntegrityError as error:
        facts = {"name": name, "damage": str(error)}
    return {**facts, "path": str(folder), "verdict": _verdict(root, name)}


def _verdict(root: Root, name: str) -> str | None:
    """Return what a release's validation here said, "unusable" if its report is."""
    path = root.folder(name) / REPORT
    if not path.exists():
        return None
    try:
        return from_json(files.read_json(path)).verdict
    except (DataError, IntegrityError):
        return "unusable"
