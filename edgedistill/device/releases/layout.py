"""Releases: the bundles that are installed on a board, beside each other, under one root.

::

    ROOT/
      releases/NAME/            whole or absent
        bundle/                 as it was verified; nothing else is written there
        edgedistill-device.pyz  the program it came with, compiled for the Python that is here
        edgedistill-device.pyz.sha256  its SHA-256, which it checks when it starts
        release.json            what it is and how it runs
        report.json             its validation here, absent before
        python -> /…/python     the interpreter that validated it here
      current -> releases/NAME
      previous -> releases/NAME
      rolled-back -> releases/NAME   what the last rollback left; absent after a switch
      fallback -> TIME REASON   if the board rolled back by itself; absent after a switch
      failures -> COUNT TIME …  of the service of `current`; absent after a switch
      switching.json -> releases/NAME   only during a switch: where it goes to
      switching.from -> releases/NAME   only during a switch: where it comes from
      lock                      of the one command that changes any of this
      deploying                 lock of the one deployment from elsewhere, with its token
      incoming/                 its uploads
      engines/                  of TensorRT, shared
      accepted.json             highest versions that ran, by signer and bundle
      allowed_signers           whose bundles a deployment may install
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Final

from edgedistill.errors import DataError, IntegrityError, UsageError
from edgedistill.io import files

FORMAT: Final = "edgedistill.release/1"
RECORD: Final = "release.json"
REPORT: Final = "report.json"
BUNDLE: Final = "bundle"
PROGRAM: Final = "edgedistill-device.pyz"
DIGEST_SUFFIX: Final = ".sha256"  # of the program's, in the form of sha256sum
INTERPRETER: Final = "python"
ALLOWED_SIGNERS: Final = "allowed_signers"
_RELEASES = "releases"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_NAME_LETTERS, _NAME_DIGITS = 40, 12  # of a name that is made: the bundle's, and of its hash
_TEXT_OR_NONE = (str, type(None))
_KINDS = {
    "name": (str,),
    "bundle": (str,),
    "model": _TEXT_OR_NONE,
    "threads": (int, type(None)),
    "provider": _TEXT_OR_NONE,
    "installed": (str,),
    "sha256": (str,),
    "signer": _TEXT_OR_NONE,
    "program": _TEXT_OR_NONE,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """The record in `release.json`."""

    name: str
    bundle: str  # name that the bundle has for people
    model: str | None  # None: the one that the bundle chose
    threads: int | None  # None: as tuned
    provider: str | None  # of ONNX Runtime; None is the CPU
    installed: str  # ISO 8601, UTC
    sha256: str  # of the bundle's manifest, which has the hashes of all its files
    signer: str | None  # principal of the allowed-signers file; None: not verified
    program: str | None  # SHA-256 of the program it came with

    def to_dict(self) -> dict[str, Any]:
        """Return plain values that JSON can hold."""
        return {"format": FORMAT, **asdict(self)}


@dataclass(frozen=True, slots=True)
class Root:
    """The folder that holds all releases of a board."""

    path: Path

    @property
    def releases(self) -> Path:
        """Folder of the releases."""
        return self.path / _RELEASES

    @property
    def current(self) -> Path:
        """Link to the release that runs."""
        return self.path / "current"

    @property
    def previous(self) -> Path:
        """Link to the release that ran before."""
        return self.path / "previous"

    @property
    def rolled_back(self) -> Path:
        """Link to the release that the last rollback left; absent after a switch."""
        return self.path / "rolled-back"

    @property
    def fallback(self) -> Path:
        """Link whose text says when and why the board rolled back by itself."""
        return self.path / "fallback"

    @property
    def failures(self) -> Path:
        """Link whose text counts the failures of the current release's service."""
        return self.path / "failures"

    @property
    def engines(self) -> Path:
        """Folder of TensorRT's engines that the releases share."""
        return self.path / "engines"

    @property
    def journal(self) -> Path:
        """Link to the release that the switch under way goes to; a JSON file before 0.2."""
        return self.path / "switching.json"

    @property
    def journal_from(self) -> Path:
        """Link to the release that the switch under way comes from."""
        return self.path / "switching.from"

    @property
    def lock(self) -> Path:
        """File that is locked while anything is changed."""
        return self.path / "lock"

    @property
    def accepted(self) -> Path:
        """File of the highest versions that ran, by signer and bundle."""
        return self.path / "accepted.json"

    @property
    def allowed_signers(self) -> Path:
        """File of the signers that deployments require."""
        return self.path / ALLOWED_SIGNERS

    @property
    def deploying(self) -> Path:
        """File that a deployment from elsewhere locks, with the token of the last one."""
        return self.path / "deploying"

    @property
    def incoming(self) -> Path:
        """Folder of the uploads of deployments."""
        return self.path / "incoming"

    def folder(self, name: str) -> Path:
        """Return the folder of a release.

        Raises:
            UsageError: no release can have that name.
        """
        if not _NAME.fullmatch(name):
            raise UsageError(
                f"{name!r} cannot name a release. Use at most 64 letters, digits, dots, dashes and "
                "underscores, a letter or a digit first."
            )
        return self.releases / name

    def target(self, name: str) -> str:
        """Return the target of a link to a release."""
        return f"{_RELEASES}/{name}"

    def names(self) -> list[str]:
        """Return the names of all releases, whole or damaged, sorted."""
        if not self.releases.is_dir():
            return []
        folders = (path.name for path in self.releases.iterdir() if path.is_dir())
        return sorted(name for name in folders if _NAME.fullmatch(name))

    def release(self, name: str) -> Release:
        """Return the record of a release.

        Raises:
            UsageError: there is no such release.
            IntegrityError: its record is damaged.
        """
        folder = self.folder(name)
        if not folder.is_dir():
            raise UsageError(
                f"There is no release {name!r} in {self.path}. There are: "
                f"{', '.join(self.names()) or 'none'}."
            )
        return read(folder)

    def installed(self, name: str) -> str:
        """Return when a release was installed, to sort by; damaged ones are the oldest."""
        try:
            return self.release(name).installed
        except IntegrityError:
            return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Target of a command: a bundle, and the settings of its model."""

    bundle: Path
    model: str | None = None
    threads: int | None = None
    provider: str | None = None
    release: Path | None = None  # folder of the release, if it is one

    @property
    def engines(self) -> Path | None:
        """Folder of TensorRT's engines that the releases share; None outside of a root."""
        if self.release is None or self.release.parent.name != _RELEASES:
            return None
        return Root(self.release.parent.parent).engines


def resolve(path: Path) -> Target:
    """Return the bundle that a path leads to: itself, or the one of a release or a link to one.

    Raises:
        IntegrityError: the release's record is damaged.
    """
    if not (path / RECORD).exists():
        return Target(bundle=path)
    folder = path.resolve()
    found = read(folder)
    return Target(
        bundle=folder / BUNDLE,
        model=found.model,
        threads=found.threads,
        provider=found.provider,
        release=folder,
    )


def linked_release(link: Path) -> str | None:
    """Return the name of the release that a link of the root leads to; None if there is none.

    Raises:
        IntegrityError: it is no link, or leads somewhere else.
    """
    try:
        place = link.readlink()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise IntegrityError(
            f"{link} is no link to a release: {error.strerror}. Move it away and switch again."
        ) from error
    if place.parent != Path(_RELEASES) or not _NAME.fullmatch(place.name):
        raise IntegrityError(
            f"{link} leads to {place}, which is no release. Remove the link and switch again."
        )
    return place.name


def name_of(bundle: str, sha256: str) -> str:
    """Return the name of a bundle's release: the same bundle is the same release.

    Args:
        bundle: name of the bundle.
        sha256: SHA-256 of its manifest.

    >>> name_of("Gun Point!", "0123456789abcdef" * 4)
    'gun-point-0123456789ab'
    """
    words = re.sub(r"[^a-z0-9._-]+", "-", bundle.lower())[:_NAME_LETTERS].strip("-._")
    return f"{words or 'bundle'}-{sha256[:_NAME_DIGITS]}"


def read(folder: Path) -> Release:
    """Read the record of a release.

    Raises:
        IntegrityError: it is missing, damaged, or of another version.
    """
    path = folder / RECORD
    try:
        found = files.read_json(path)
    except DataError as error:
        raise _damaged(path, str(error)) from error
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise _damaged(path, f"it is not of format {FORMAT}")
    values = {key: value for key, value in found.items() if key != "format"}
    if values.keys() != {field.name for field in fields(Release)}:
        raise _damaged(path, f"it has the fields {', '.join(sorted(values))}")
    for key, value in values.items():
        if type(value) not in _KINDS[key]:
            raise _damaged(path, f"{key} is {value!r}")
    return Release(**values)


def _damaged(path: Path, reason: str) -> IntegrityError:
    return IntegrityError(f"{path} is no record of a release: {reason}. Install the bundle again.")
