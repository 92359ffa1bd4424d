"""Installation of bundles as releases beside the present ones, and removal of old ones.

An installed release is never written into, so a running one is not disturbed. The device program of
a release is stored with the bytecode of its modules, compiled for the Python that is here: Python
keeps no bytecode of a zipapp, and compiling takes longer than loading NumPy. Another version of
Python passes over it and takes the sources. Nothing is compressed: the disk has room, and every
start would unpack it again.
"""

from __future__ import annotations

import marshal
import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from importlib import util
from pathlib import Path
from typing import Final

import edgedistill
from edgedistill.bundle import signature
from edgedistill.bundle.location import locate
from edgedistill.bundle.manifest import MANIFEST
from edgedistill.bundle.manifest import read as read_manifest
from edgedistill.bundle.reader import open_bundle
from edgedistill.device.releases import disk
from edgedistill.device.releases.downgrade import require_no_downgrade
from edgedistill.device.releases.layout import (
    BUNDLE,
    DIGEST_SUFFIX,
    PROGRAM,
    RECORD,
    Release,
    Root,
    linked_release,
    name_of,
    read,
)
from edgedistill.device.releases.lock import file_lock
from edgedistill.device.releases.permissions import require_safe
from edgedistill.errors import EdgeDistillError, IntegrityError, MachineError, UsageError
from edgedistill.io import archives, files

_NEW, _OLD = ".new.", ".old."  # prefixes of folders that a killed process leaves
_SHEBANG: Final = b"#!/usr/bin/env python3\n"
_UNCHECKED: Final = (1).to_bytes(4, "little")  # by a hash, and not to be compared with the source


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """Settings of an installation, without the bundle."""

    name: str | None = None  # of the release; None: made from the bundle
    program: Path | None = None  # that comes with it
    model: str | None = None
    threads: int | None = None
    provider: str | None = None
    allowed_signers: Path | None = None  # None: the bundle need not be signed
    allow_downgrade: bool = False  # install an older version than ran here, too

    def __post_init__(self) -> None:
        if self.threads is not None and self.threads < 1:
            raise UsageError(f"threads is {self.threads}; give 1 or more.")
        if self.program is not None and not self.program.is_file():
            raise UsageError(f"There is no program at {self.program}. Check the path.")


def install(root: Root, archive: Path, request: Request) -> tuple[Release, bool]:
    """Verify a bundle and install it; the caller holds the lock.

    Args:
        root: root of the releases.
        archive: path of the bundle's zip, or of the folder of a run.
        request: settings of the installation.

    Returns:
        The release, and whether it is new; the same bundle, installed again in the same way, is
        not.

    Raises:
        UsageError: the name is taken, or the bundle has no such model.
        DataError: the archive cannot be read.
        IntegrityError: the bundle cannot be trusted, is older than what ran here, or others may
            change the allowed signers or the root.
        MachineError: the disk is full or read-only, or there is no ssh-keygen.
    """
    with _scratch(root) as scratch:
        if request.allowed_signers is not None and request.allowed_signers.exists():
            require_safe(request.allowed_signers)
        require_safe(root.releases)
        archives.unpack(locate(archive), scratch / BUNDLE)
        release = _verified(scratch / BUNDLE, request)
        if not request.allow_downgrade:
            require_no_downgrade(root, release, bundle_version(scratch))
        for name in _names(release, request):
            present = _installed_release(root.folder(name))
            if present is None:
                break
            if _is_same(present, release):
                return present, False
        else:
            raise _name_taken(root, name)
        release = replace(release, name=name)
        if request.program is not None:
            compile_program(request.program, scratch / PROGRAM)
            digest = files.sha256(scratch / PROGRAM)
            files.write_text(scratch / f"{PROGRAM}{DIGEST_SUFFIX}", f"{digest}  {PROGRAM}\n")
        files.write_json(scratch / RECORD, release.to_dict())
        scratch.chmod(0o755)
        disk.flush_all(scratch)
        files.swap_in(scratch, root.folder(name))
        disk.flush(root.releases)
    return release, True


def bundle_version(release: Path) -> int | None:
    """Return the version of a release's bundle; None if it has none.

    Args:
        release: folder of the release.

    Raises:
        IntegrityError: its manifest is damaged.
    """
    version: int | None = read_manifest(release / BUNDLE / MANIFEST).get("version")
    return version


def prune(root: Root, keep: int) -> list[str]:
    """Remove all but the newest releases, and leftovers of killed commands; the caller locks.

    Engines of TensorRT go with the last release that has their model, uploads unless a deployment
    is under way.

    Args:
        root: root of the releases.
        keep: number of releases to keep; `current` and `previous` always stay, and count.

    Returns:
        The names of the removed ones.

    Raises:
        UsageError: keep is negative.
        MachineError: the disk is read-only.
    """
    if keep < 0:
        raise UsageError(f"keep is {keep}; give 0 or more.")
    linked_to = {linked_release(root.current), linked_release(root.previous)} - {None}
    others = [name for name in root.names() if name not in linked_to]
    others.sort(key=root.installed, reverse=True)
    gone = others[max(0, keep - len(linked_to)) :]
    with files.translate_os_errors(root.releases):
        for name in gone:
            folder = root.folder(name)
            folder.rename(folder.with_name(f"{_OLD}{name}"))  # whole or absent, also when killed
        _clean_up(root)
        _forget_engines(root)
        _remove_uploads(root)
    return sorted(gone)


def running_program() -> Path | None:
    """Return the path of the running program; None if it is an installed package."""
    archive = getattr(getattr(edgedistill, "__loader__", None), "archive", None)
    return None if archive is None else Path(archive)


def compile_program(program: Path, out: Path) -> None:
    """Write a copy of a zipapp that holds the bytecode of its modules too.

    Raises:
        IntegrityError: it is no zipapp, or damaged.

    Source: PEP 552, the format of bytecode that goes by hashes.
    """
    try:
        with (
            zipfile.ZipFile(program) as source,
            out.open("wb") as stream,
        ):
            stream.write(_SHEBANG)
            with zipfile.ZipFile(stream, "w") as compiled:
                for member in source.infolist():
                    content = source.read(member)
                    compiled.writestr(member, content, zipfile.ZIP_STORED)
                    if member.filename.endswith(".py"):
                        # Of 1980, not of now: a board's clock may stand before zip's first date.
                        bytecode = zipfile.ZipInfo(f"{member.filename}c")
                        compiled.writestr(bytecode, _bytecode(content, member))
    except (zipfile.BadZipFile, SyntaxError, ValueError) as error:
        raise IntegrityError(
            f"{program} is no device program: {error}. Make one with `edgedistill program`."
        ) from error
    out.chmod(0o755)


def is_whole(program: Path) -> bool:
    """Return whether a zipapp can be read to its last byte: Python does not check what it runs."""
    try:
        with zipfile.ZipFile(program) as archive:
            return archive.testzip() is None
    except (OSError, zipfile.BadZipFile):
        return False


def damage(release: Path) -> str | None:
    """Return what is wrong with the files of a release, None if nothing is.

    Args:
        release: folder of the release, or a link to it.
    """
    manifest, program = release / BUNDLE / MANIFEST, release / PROGRAM
    try:
        record = read(release)
        with open_bundle(release / BUNDLE):
            pass
        if files.sha256(manifest) != record.sha256:
            return f"{manifest} is not the one that was installed"
    except (EdgeDistillError, OSError) as error:  # OSError: a disk that cannot be read
        return str(error).removesuffix(".")
    if record.program is not None and not is_whole(program):
        return f"{program} is damaged"
    return None


@contextmanager
def _scratch(root: Root) -> Iterator[Path]:
    """Yield a new folder among the releases; it may be moved away, or goes afterwards."""
    with files.translate_os_errors(root.releases):
        root.releases.mkdir(parents=True, exist_ok=True)
        _clean_up(root)
        scratch = Path(tempfile.mkdtemp(dir=root.releases, prefix=_NEW))
        try:
            yield scratch
        finally:
            shutil.rmtree(scratch, ignore_errors=True)


def _clean_up(root: Root) -> None:
    """Remove leftovers: no other command works there while the lock is held."""
    for path in root.releases.glob(".*"):
        shutil.rmtree(path, ignore_errors=True)


def _forget_engines(root: Root) -> None:
    """Remove the engines of models that no release has; none, if a manifest is damaged."""
    _sweep_old(root.engines)
    manifests = [root.folder(name) / BUNDLE / MANIFEST for name in root.names()]
    try:
        listed = [read_manifest(path)["files"] for path in manifests]
    except (EdgeDistillError, OSError):
        return
    models = {facts["sha256"] for each in listed for facts in each.values()}
    for folder in [path for path in root.engines.glob("[!.]*-*") if path.is_dir()]:
        digest = folder.name.partition("-")[0]
        if not any(model.startswith(digest) for model in models):
            folder.rename(folder.with_name(f"{_OLD}{folder.name}"))  # whole or absent, as a release
    _sweep_old(root.engines)


def _remove_uploads(root: Root) -> None:
    if root.incoming.is_dir():
        with suppress(MachineError), file_lock(root.deploying, name_holder=False):
            shutil.rmtree(root.incoming, ignore_errors=True)


def _sweep_old(folder: Path) -> None:
    for path in folder.glob(f"{_OLD}*"):
        shutil.rmtree(path, ignore_errors=True)


def _verified(bundle: Path, request: Request) -> Release:
    """Verify an unpacked bundle; return its release record, without a name."""
    allowed = request.allowed_signers
    signer = None if allowed is None else signature.verify(bundle, allowed)
    with open_bundle(bundle) as opened:
        opened.model(request.model)
        name = opened.name
    return Release(
        name="",
        bundle=name,
        model=request.model,
        threads=request.threads,
        provider=request.provider,
        installed=datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
        sha256=files.sha256(bundle / MANIFEST),
        signer=signer,
        program=None if request.program is None else files.sha256(request.program),
    )


def _names(release: Release, request: Request) -> list[str]:
    """Return the names to try: the bundle's alone, then one with a hash of the settings."""
    if request.name is not None:
        return [request.name]
    name = name_of(release.bundle, release.sha256)
    return [name, f"{name}-{files.fingerprint(_settings(release))[:6]}"]


def _settings(release: Release) -> list[str | int | None]:
    """Return the settings that distinguish releases of the same bundle."""
    return [release.model, release.threads, release.provider, release.program, release.signer]


def _is_same(present: Release, release: Release) -> bool:
    return present.sha256 == release.sha256 and _settings(present) == _settings(release)


def _name_taken(root: Root, name: str) -> UsageError:
    return UsageError(
        f"There is a release {name!r} of other contents in {root.path}. Choose another "
        "--name, or leave it out."
    )


def _installed_release(folder: Path) -> Release | None:
    """Return the release in a folder if there is one, and it is whole."""
    return read(folder) if damage(folder) is None else None


def _bytecode(source: bytes, member: zipfile.ZipInfo) -> bytes:
    code = compile(source, member.filename, "exec", dont_inherit=True)
    return util.MAGIC_NUMBER + _UNCHECKED + util.source_hash(source) + marshal.dumps(code)
