"""Files that are whole or absent: atomic writes, hashes, safe unpacking.

Standard library only, because the board uses it too.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import stat
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

from edgedistill.errors import DataError, IntegrityError, MachineError, UsageError

MAX_ARCHIVE_FILES = 1_000
MAX_ARCHIVE_BYTES = 2 * 1024**3
MAX_ARCHIVE_RATIO = 200  # unpacked over packed; text compresses 10-20x, a bomb 1000x
_CHUNK_BYTES = 1 << 20
_FULL = {errno.ENOSPC, errno.EDQUOT}
_REFUSED = {
    *(errno.EACCES, errno.EPERM, errno.EROFS),  # not allowed
    *(errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG),  # not possible there
}
_DAMAGE = (  # what reading a damaged, encrypted or exotic zip can raise
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    RuntimeError,  # encrypted; NotImplementedError, an unknown method, is one too
    ValueError,  # a name that is no text, an offset outside the file
    IndexError,  # a member without a name, before Python 3.12
)


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file as 64 hex digits."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def fingerprint(value: Any) -> str:
    """Return the SHA-256 of a JSON-able value, independent of key order.

    >>> fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1})
    True
    """
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; it takes that name only if the block succeeds.

    Raises:
        MachineError: the disk is full or read-only, the folder may not be written, or
            `path` is a folder or lies below a file.
    """
    with _explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(
            dir=path.parent, prefix=f".{path.name}.", suffix=path.suffix
        )
        os.close(handle)
        partial = Path(name)
        try:
            yield partial
            _sync(partial)
            partial.chmod(0o644)
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder beside `path`; it replaces `path` only if the block succeeds.

    Raises:
        MachineError: the disk is full or read-only, the folder may not be written, or
            `path` is a file or lies below one.
    """
    with _explained(path):
        if path.exists() and not path.is_dir():
            raise FileExistsError(errno.EEXIST, "a file of that name exists", str(path))
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))
        try:
            yield partial
            partial.chmod(0o755)
            _swap_in(partial, path)
        finally:
            shutil.rmtree(partial, ignore_errors=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file whole or not at all."""
    with whole_file(path) as partial:
        partial.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write JSON, indented, whole or not at all; NaN is refused because JSON has none."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Return what a JSON file holds.

    Raises:
        DataError: the file is missing, unreadable, or not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"Cannot read {path}: {error.strerror}. Check the path.") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is not valid JSON: {error}. Make the file anew.") from error


def pack(folder: Path, archive: Path) -> None:
    """Zip a folder; equal content gives equal bytes."""
    members = sorted(p for p in folder.rglob("*") if p.is_file())
    with whole_file(archive) as partial, zipfile.ZipFile(partial, "w") as bundle:
        for member in members:
            info = zipfile.ZipInfo(member.relative_to(folder).as_posix())
            info.external_attr = (stat.S_IFREG | 0o644) << 16
            info.compress_type = zipfile.ZIP_DEFLATED
            bundle.writestr(info, member.read_bytes())


def unpack(archive: Path, folder: Path) -> None:
    """Unpack a zip into a new folder, whole or not at all.

    Raises:
        UsageError: `folder` exists already.
        DataError: the archive cannot be read at all.
        IntegrityError: not a zip, damaged, or a member is a link, leaves the folder,
            stands twice, or the archive is larger than a bundle can be.
        MachineError: the disk is full or read-only, or the folder may not be written.
    """
    if folder.exists():
        raise UsageError(f"{folder} exists already. Name a new folder to unpack into.")
    try:
        stream = archive.open("rb")
    except OSError as error:
        raise DataError(f"Cannot read {archive}: {error.strerror}. Check the path.") from error
    try:
        with stream, zipfile.ZipFile(stream) as bundle, whole_folder(folder) as partial:
            for member in _checked_members(bundle, archive):
                target = partial / member.filename
                target.parent.mkdir(parents=True, exist_ok=True)
                with bundle.open(member) as source, target.open("wb") as sink:
                    shutil.copyfileobj(source, sink, _CHUNK_BYTES)
    except (*_DAMAGE, OSError) as error:
        if isinstance(error, OSError) and error.errno != errno.EINVAL:  # a seek before the start
            raise
        raise IntegrityError(
            f"{archive} is not a whole zip file: {error}. Copy it again."
        ) from error


def _checked_members(bundle: zipfile.ZipFile, archive: Path) -> list[zipfile.ZipInfo]:
    members = [m for m in bundle.infolist() if not m.is_dir()]
    if len(members) > MAX_ARCHIVE_FILES:
        raise IntegrityError(
            f"{archive} holds {len(members)} files; at most {MAX_ARCHIVE_FILES} are unpacked."
        )
    total = sum(m.file_size for m in members)
    packed = max(1, sum(m.compress_size for m in members))
    if total > MAX_ARCHIVE_BYTES or total / packed > MAX_ARCHIVE_RATIO:
        raise IntegrityError(
            f"{archive} would unpack to {total} bytes from {packed}; that is no bundle of ours."
        )
    for member in members:
        _check_member(member, archive)
    _check_distinct([m.filename for m in members], archive)
    return members


def _check_member(member: zipfile.ZipInfo, archive: Path) -> None:
    name = member.filename
    path = PurePosixPath(name)
    plain = path.parts and str(path) == name  # no empty part and no ".": one name a file
    if not plain or path.is_absolute() or ".." in path.parts or "\\" in name or ":" in name:
        raise IntegrityError(f"{archive} holds {name!r}, which leaves its folder. Do not trust it.")
    kind = stat.S_IFMT(member.external_attr >> 16)  # 0: many tools note permissions only
    if kind not in {0, stat.S_IFREG}:
        raise IntegrityError(f"{archive} holds {name!r}, which is no plain file. Do not trust it.")


def _check_distinct(names: list[str], archive: Path) -> None:
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise IntegrityError(f"{archive} holds {twice!r} twice. Do not trust it.")
    folders = {str(folder) for name in names for folder in PurePosixPath(name).parents}
    for name in names:
        if name in folders:
            raise IntegrityError(
                f"{archive} holds {name!r} both as a file and as a folder. Do not trust it."
            )


def _swap_in(partial: Path, path: Path) -> None:
    """Put `partial` in the place of `path`; the old folder goes only when the new one stands."""
    if not path.exists():
        partial.rename(path)
        return
    old = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.old."))
    try:
        path.rename(old / path.name)
        partial.rename(path)
    finally:
        if not path.exists():  # Ctrl-C or the disk came between the two
            (old / path.name).rename(path)
        shutil.rmtree(old, ignore_errors=True)


def _sync(path: Path) -> None:
    with path.open("rb") as stream:
        os.fsync(stream.fileno())


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turn what a disk can refuse into a message with a next step."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise MachineError(
                f"The disk is full while writing {path}. Free some space and run again; "
                "nothing half written was kept."
            ) from error
        if error.errno in _REFUSED:
            raise MachineError(
                f"Cannot write {path}: {_told(error)}. Choose another place or name, or change who "
                "may write there."
            ) from error
        raise


def _told(error: OSError) -> str:
    """Return what the system said, and of which file."""
    place = error.filename2 or error.filename
    return f"{place}: {error.strerror}" if place else str(error.strerror)
