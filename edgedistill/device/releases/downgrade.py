"""Downgrade protection: the highest version that a root has made current, by signer and bundle.

A signature has no end: without this, an old bundle with a known fault could be replayed. The
version is part of the signed manifest. What a switch made current is recorded; a rollback needs no
record, since it returns to what is installed.
"""

from __future__ import annotations

from typing import Any, Final

from edgedistill.bundle.manifest import MANIFEST
from edgedistill.bundle.manifest import read as read_manifest
from edgedistill.device.releases.layout import BUNDLE, Release, Root
from edgedistill.errors import DataError, IntegrityError
from edgedistill.io import files

FORMAT: Final = "edgedistill.accepted/1"


def require_no_downgrade(root: Root, release: Release, version: int | None) -> None:
    """Refuse a bundle that is older than the newest its signer had made current here.

    Args:
        root: root of the releases.
        release: record of the verified bundle; one without a signer is not checked.
        version: version in its manifest; None, of a bundle signed before 0.2, is the oldest.

    Raises:
        IntegrityError: it is older; or the record is damaged.
    """
    highest = _read(root).get(release.signer or "", {}).get(release.bundle)
    if release.signer is None or highest is None or (version or 0) >= highest:
        return
    shown = "no version" if version is None else f"version {version}"
    raise IntegrityError(
        f"{release.bundle} by {release.signer} has {shown}; this board has run version {highest}. "
        "An older bundle may have a fault that was mended since. To return to an installed "
        "release, use `rollback`; to install this one all the same, give --allow-downgrade."
    )


def record_version(root: Root, name: str) -> None:
    """Record the version of a release that a switch made current, if it is the highest.

    Raises:
        IntegrityError: the record is damaged.
        MachineError: the disk is full or read-only.
    """
    release = root.release(name)
    if release.signer is None:
        return
    version = read_manifest(root.folder(name) / BUNDLE / MANIFEST).get("version")
    if version is None:
        return
    accepted = _read(root)
    versions = accepted.setdefault(release.signer, {})
    if version > versions.get(release.bundle, 0):
        versions[release.bundle] = version
        files.write_json(root.accepted, {"format": FORMAT, "versions": accepted})


def _read(root: Root) -> dict[str, dict[str, int]]:
    """Return the highest versions by signer and name of the bundle."""
    if not root.accepted.exists():
        return {}
    try:
        found: Any = files.read_json(root.accepted)
    except DataError as error:
        raise _damaged(root, str(error)) from error
    versions = found.get("versions") if isinstance(found, dict) else None
    if not isinstance(versions, dict) or found.get("format") != FORMAT:
        raise _damaged(root, f"it is not of format {FORMAT}")
    for each in versions.values():
        if not isinstance(each, dict) or any(type(value) is not int for value in each.values()):
            raise _damaged(root, f"it has the versions {each!r}")
    return versions


def _damaged(root: Root, reason: str) -> IntegrityError:
    return IntegrityError(
        f"{root.accepted}, which protects from older bundles, is damaged: {reason} Look at what "
        "runs; if all is well, remove the file."
    )
