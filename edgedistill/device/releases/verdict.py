"""Verdict of a release's validation on this board."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from edgedistill.device.releases.layout import REPORT, Root
from edgedistill.errors import ContractError, DataError, IntegrityError, UsageError
from edgedistill.io import files
from edgedistill.report import from_json

RELEASES_TO_KEEP: Final = "kept"


def verdict_of(root: Root, name: str) -> str | None:
    """Return the verdict of a release's validation here, "unusable" if its report is."""
    path = root.folder(name) / REPORT
    if not path.exists():
        return None
    try:
        return from_json(files.read_json(path)).verdict
    except (DataError, IntegrityError):
        return "unusable"


def require_kept_contract(folder: Path) -> None:
    """Refuse a release that was not validated here, or broke its contract.

    Raises:
        UsageError: it was not validated.
        ContractError: it broke its contract.
        IntegrityError: its report is damaged.
    """
    path = folder / REPORT
    if not path.exists():
        raise UsageError(
            f"{folder.name} was not validated here. Do so first, with `validate {folder}`, or "
            "switch with --force."
        )
    try:
        verdict = from_json(files.read_json(path)).verdict
    except DataError as error:
        raise IntegrityError(
            f"{path} is unusable: {error} Validate {folder.name} again."
        ) from error
    if verdict != RELEASES_TO_KEEP:
        raise ContractError(
            f"{folder.name} breaks its contract here, as {path} says. Nothing was switched."
        )
