"""Folders as zip files: packed so that equal content gives equal bytes, unpacked with suspicion.

Apart from `files`, because a prediction on a board opens a folder and need not load `zipfile`.
Standard library only.
"""

from __future__ import annotations

import errno
import shutil
import stat
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from edgedistill.errors import DataError, IntegrityError, MachineError, UsageError
from edgedistill.io.files import whole_file, whole_folder

MAX_ARCHIVE_FILES = 1_000
MAX_ARCHIVE_BYTES = 2 * 1024**3
MAX_ARCHIVE_RATIO = 200  # unpacked over packed; text compresses 10-20x, a bomb 1000x
METHODS = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}  # of compression, in what we read
_CHUNK_BYTES = 1 << 20
DAMAGE = (  # what reading a damaged, encrypted or exotic zip can raise
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    RuntimeError,  # encrypted; NotImplementedError, an unknown method, is one too
    ValueError,  # a name that is no text, an offset outside the file
    IndexError,  # a member without a name, before Python 3.12
)


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
        MachineError: the disk has no room for it, is read-only, or may not be written.
    """
    if folder.exists():
        raise UsageError(f"{folder} exists already. Name a new folder to unpack into.")
    try:
        stream = archive.open("rb")
    except OSError as error:
        raise DataError(f"Cannot read {archive}: {error.strerror}. Check the path.") from error
    try:
        with stream, zipfile.ZipFile(stream) as bundle, whole_folder(folder) as partial:
            members = _checked_members(bundle, archive)
            _check_space(sum(member.file_size for member in members), archive, partial)
            for member in members:
                target = partial / member.filename
                target.parent.mkdir(parents=True, exist_ok=True)
                with bundle.open(member) as source, target.open("wb") as sink:
                    shutil.copyfileobj(source, sink, _CHUNK_BYTES)
    except (*DAMAGE, OSError) as error:
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
    if member.compress_type not in METHODS:
        raise IntegrityError(
            f"{archive} holds {name!r}, compressed by method {member.compress_type}; bundles are "
            "deflated. Make it anew with `edgedistill bundle`."
        )


def _check_space(needed: int, archive: Path, folder: Path) -> None:
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise MachineError(
            f"{archive} unpacks to {needed} bytes, and {free} are free on the disk of "
            f"{folder.parent}. Free some space and run again; nothing was unpacked."
        )


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
