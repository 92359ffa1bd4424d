"""Stage folders: written atomically, checked against key and hashes."""

from __future__ import annotations

import platform
import re
import shutil
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any

from edgedistill.errors import DataError
from edgedistill.io.files import read_json, sha256, whole_folder, write_json
from edgedistill.pipeline.run_folder import WORK

STAGE = "stage.json"
PACKAGES = ("edgedistill", "numpy", "torch", "onnx", "onnxruntime")


def make_stage(
    out: Path, key: str, make: Callable[[Path, Path], None], *, work: Path | None = None
) -> None:
    """Fill a stage folder, whole or not at all.

    Args:
        out: the folder.
        key: key of everything that the stage depends on.
        make: fills (folder, work); what it leaves in `work` survives a kill.
        work: folder that a killed run resumes from; by default beside `out`.
    """
    work = work or out.parent / WORK / f"{out.name}-{key[:12]}"
    work.mkdir(parents=True, exist_ok=True)
    _clear(out)
    try:
        with whole_folder(out) as folder:
            make(folder, work)
            if (work / "tensorboard").exists():
                shutil.copytree(work / "tensorboard", folder / "tensorboard")
            write_json(folder / STAGE, _manifest(out.name, key, folder))
        shutil.rmtree(work)
    finally:
        for empty in (work, work.parent):
            with suppress(OSError):  # not empty: something to resume from
                empty.rmdir()


def cached_folder(parent: Path, name: str, key: str, fill: Callable[[Path], None]) -> Path:
    """Return a folder that was filled from `key`, and fill it if it was not.

    Args:
        parent: folder that it lies in.
        name: name of the folder.
        key: hash of everything that the content depends on.
        fill: writes the content into an empty folder.
    """
    folder = parent / name
    if not is_unchanged(folder, key):
        make_stage(folder, key, lambda whole, _: fill(whole))
    return folder


def is_unchanged(folder: Path, key: str) -> bool:
    """Whether a folder was made under `key`, and every file in it is unchanged since."""
    try:
        manifest = read_json(folder / STAGE)
    except DataError:
        return False
    if not isinstance(manifest, dict):
        return False
    return manifest.get("key") == key and manifest.get("files") == file_hashes(folder)


def file_hashes(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of every file in a stage folder, but its manifest, by relative path."""
    files = sorted(p for p in folder.rglob("*") if p.is_file() and p.name != STAGE)
    return {path.relative_to(folder).as_posix(): sha256(path) for path in files}


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that make a bundle."""
    numbers = {"python": platform.python_version()}
    for package in PACKAGES:
        with suppress(metadata.PackageNotFoundError):
            numbers[package] = metadata.version(package)
    return numbers


def now() -> str:
    """Return the time, ISO 8601, UTC, such as 2026-11-20T09:52:00Z."""
    return datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def _clear(out: Path) -> None:
    """Remove what a killed run could not: folders as `whole_folder` names them, no others."""
    partial = re.compile(re.escape(f".{out.name}.") + r"(old\.)?[a-z0-9_]{8}")
    for left in out.parent.glob(f".{out.name}.*"):
        if partial.fullmatch(left.name):
            shutil.rmtree(left, ignore_errors=True)


def _manifest(name: str, key: str, folder: Path) -> dict[str, Any]:
    return {
        "stage": name,
        "key": key,
        "created": now(),
        "versions": versions(),
        "files": file_hashes(folder),
    }
