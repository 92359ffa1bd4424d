"""Files that are whole or absent: atomic writes, hashes, JSON.

Standard library only, because the board uses it too. `tempfile` and `shutil` are loaded where
something is written: a prediction on a board reads, and starts sooner without them.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from edgedistill.errors import DataError, MachineError

_CHUNK_BYTES = 1 << 20
_FULL = {errno.ENOSPC, errno.EDQUOT}
_SUFFIX = 16  # characters at most that a temporary name shares with its file
_PREFIX_BYTES = 200  # of its beginning, so that it is not too long where the name just fits
_REFUSED = {
    *(errno.EACCES, errno.EPERM, errno.EROFS),  # not allowed
    *(errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG),  # not possible there
}


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
    import tempfile

    with translate_os_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        suffix = path.suffix if len(path.suffix) <= _SUFFIX else ""
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=_prefix(path), suffix=suffix)
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
    import shutil
    import tempfile

    with translate_os_errors(path):
        if path.exists() and not path.is_dir():
            raise FileExistsError(errno.EEXIST, "a file of that name exists", str(path))
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(dir=path.parent, prefix=_prefix(path)))
        try:
            yield partial
            partial.chmod(0o755)
            swap_in(partial, path)
        finally:
            shutil.rmtree(partial, ignore_errors=True)


@contextmanager
def translate_os_errors(path: Path) -> Iterator[None]:
    """Turn errors of the disk while `path` is written into a MachineError."""
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
                f"Cannot write {path}: {_reason(error)}. Choose another place or name, or change "
                "who may write there."
            ) from error
        raise


def swap_in(partial: Path, path: Path) -> None:
    """Replace the folder `path` by another; the old one is removed when the new one is in place."""
    if not path.exists():
        partial.rename(path)
        return
    import shutil
    import tempfile

    old = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.old."))
    try:
        path.rename(old / path.name)
        partial.rename(path)
    finally:
        if not path.exists():  # Ctrl-C or the disk came between the two
            (old / path.name).rename(path)
        shutil.rmtree(old, ignore_errors=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file whole or not at all."""
    with whole_file(path) as partial:
        partial.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write JSON, indented, whole or not at all; NaN is refused because JSON has none."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        DataError: the file is missing, unreadable, or not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"Cannot read {path}: {error.strerror}. Check the path.") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is not valid JSON: {error}. Make the file anew.") from error


def _prefix(path: Path) -> str:
    return os.fsencode(f".{path.name}")[:_PREFIX_BYTES].decode(errors="ignore") + "."


def _sync(path: Path) -> None:
    with path.open("rb") as stream:
        os.fsync(stream.fileno())


def _reason(error: OSError) -> str:
    """Return the system's reason, and its file."""
    place = error.filename2 or error.filename
    return f"{place}: {error.strerror}" if place else str(error.strerror)
