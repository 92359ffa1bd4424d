"""Payload of a deployment, prepared once for all boards, and its upload to one.

An upload resumes after a cut, is verified by its hash, and is whole or absent: it grows as
`SHA256.part` and takes the name `SHA256` once the board has read those bytes back. A part is
resumed only if its own hash agrees.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from edgedistill.bundle.location import locate
from edgedistill.bundle.manifest import SIGNATURE
from edgedistill.bundle.reader import Bundle, open_bundle
from edgedistill.deployment.connection import Connection
from edgedistill.deployment.zipapp import NAME, write_program
from edgedistill.errors import IntegrityError, LostConnectionError, MachineError
from edgedistill.io import archives, files
from edgedistill.io.terminal import brief_printable

_ENGINE_BYTES: Final = 64 << 20  # an engine and its timing cache, generously
_CHUNK_BYTES: Final = 1 << 18
_BLOCK_BYTES: Final = 1 << 16  # of `dd`, which begins at a multiple of it
_HASHING_S: Final = 600.0  # gigabytes on a slow card
_LOOK: Final = """
mkdir -p -- "$1" && cd -- "$1" || exit 5
if [ -f "$2" ]; then echo "whole $(wc -c <"$2") $(sha256sum <"$2")"; fi
if [ -f "$2.part" ]; then echo "part $(wc -c <"$2.part") $(sha256sum <"$2.part")"; fi
"""
_WRITE: Final = (
    'cd -- "$1" || exit 5; if [ "$3" -eq 0 ]; then rm -f -- "$2.part" || exit 5; fi; '
    f'dd of="$2.part" bs={_BLOCK_BYTES} seek="$3" conv=notrunc'
)
_FINISH: Final = """
cd -- "$1" || exit 5
case "$(sha256sum <"$2.part" 2>/dev/null)" in
  "$2"*) sync "$2.part" && mv -f -- "$2.part" "$2" && sync . ;;
  *) rm -f -- "$2.part"; [ -f "$2" ] || exit 6 ;;
esac
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadFile:
    """A file that is uploaded, named after its content."""

    path: Path
    sha256: str
    size_bytes: int

    @classmethod
    def of(cls, path: Path) -> UploadFile:
        """Return a file as it is."""
        return cls(path=path, sha256=files.sha256(path), size_bytes=path.stat().st_size)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeploymentPayload:
    """A verified bundle as one file, and the program that installs and runs it."""

    name: str  # of the bundle
    archive: UploadFile
    program: UploadFile
    runtime: str  # of the model that will run: "onnxruntime" or "tensorrt"
    unpacked_bytes: int

    @property
    def needed_bytes(self) -> int:
        """Return the free space that a board needs, generously.

        The archive, the bundle twice (what is unpacked, and what is written beside before an older
        release goes), an engine where one is built.
        """
        engine = _ENGINE_BYTES if self.runtime == "tensorrt" else 0
        return (
            self.program.size_bytes * 2 + self.archive.size_bytes + 2 * self.unpacked_bytes + engine
        )


@contextmanager
def prepare_payload(
    bundle: Path, *, model: str | None = None, unsigned: bool = False
) -> Iterator[DeploymentPayload]:
    """Verify a bundle and yield the payload to upload.

    Args:
        bundle: path of a folder or a zip, or of the folder of a run; a zip is uploaded as it is.
        model: name of the model to run, instead of the chosen one.
        unsigned: whether an unsigned bundle is accepted.

    Raises:
        UsageError: there is no bundle, or no such model in it.
        IntegrityError: it cannot be trusted, or is not signed and has to be.
        MachineError: the disk is full.
    """
    with (
        open_bundle(bundle) as opened,
        tempfile.TemporaryDirectory(prefix="edgedistill-") as scratch,
    ):
        if not unsigned and not (opened.root / SIGNATURE).is_file():
            raise IntegrityError(
                f"{bundle} is not signed, so no board would take it. Sign it with "
                f"`edgedistill sign {bundle}`, or deploy it with --unsigned."
            )
        program = Path(scratch) / NAME
        write_program(program)
        yield DeploymentPayload(
            name=opened.name,
            archive=UploadFile.of(_archive(locate(bundle), opened, Path(scratch))),
            program=UploadFile.of(program),
            runtime=opened.model(model).runtime,
            unpacked_bytes=sum(p.stat().st_size for p in opened.root.rglob("*") if p.is_file()),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadResult:
    """Result of an upload."""

    path: str  # on the board
    sent_bytes: int  # 0 if it was there already


async def upload(
    connection: Connection, file: UploadFile, folder: str, on_bytes: Callable[[int, int], None]
) -> UploadResult:
    """Upload a file to a folder of the board, under the name of its hash.

    Args:
        connection: open connection.
        file: file to upload.
        folder: folder on the board, absolute; created if missing.
        on_bytes: callback for bytes done and bytes in all.

    Raises:
        LostConnectionError: the connection broke off; what has arrived stays for the next time.
        MachineError: the disk there is full or read-only.
        IntegrityError: the board reads back other bytes than were sent.
    """
    path = f"{folder}/{file.sha256}"
    found = await _uploaded_bytes(connection, file, folder)
    if found is None:
        on_bytes(file.size_bytes, file.size_bytes)
        return UploadResult(path=path, sent_bytes=0)
    try:
        await _send(connection, file, folder, found, on_bytes)
    except LostConnectionError:
        raise
    except MachineError as error:
        raise await _write_error(connection, file, folder, error) from error
    done = await connection.run(
        ["sh", "-s", "--", folder, file.sha256], stdin=_FINISH, timeout_s=_HASHING_S
    )
    if done.code == IntegrityError.exit_code:
        raise IntegrityError(
            f"{connection.host} read back other bytes than were sent to {path}. Its disk may be "
            "failing; what was written is removed. Deploy again."
        )
    if done.code:
        raise MachineError(f"{connection.host} cannot finish {path}: {_last_line(done.stderr)}")
    return UploadResult(path=path, sent_bytes=file.size_bytes - found)


def _archive(bundle: Path, bundle_reader: Bundle, scratch: Path) -> Path:
    if not bundle.is_dir():
        return bundle
    packed = scratch / "bundle.zip"
    archives.pack(bundle_reader.root, packed)
    return packed


async def _uploaded_bytes(connection: Connection, file: UploadFile, folder: str) -> int | None:
    """Return the size of a file's part on the board, None if the file is there whole."""
    found = await connection.run(
        ["sh", "-s", "--", folder, file.sha256], stdin=_LOOK, timeout_s=_HASHING_S
    )
    if found.code:
        raise MachineError(
            f"{connection.host} cannot use {folder}: {_last_line(found.stderr)}. Choose another "
            "--root, or change who may write there."
        )
    there = {
        kind: (int(size), sha256)
        for kind, size, sha256, *_ in map(str.split, found.stdout.splitlines())
    }
    if "whole" in there and there["whole"][1] == file.sha256:
        return None
    size, sha256 = there.get("part", (0, ""))
    if size <= file.size_bytes and sha256 == await asyncio.to_thread(_head, file.path, size):
        return size
    return 0


async def _send(
    connection: Connection,
    file: UploadFile,
    folder: str,
    start: int,
    on_bytes: Callable[[int, int], None],
) -> None:
    """Write a file's part from byte `start` on, or anew.

    Through the shell: SFTP is another program on the board, which not every one has. `dd` writes at
    a place, not at the end: what a lost connection still writes there are the same bytes.
    """
    block = start // _BLOCK_BYTES
    words = ["sh", "-c", _WRITE, "sh", folder, file.sha256, str(block)]
    on_bytes(start, file.size_bytes)
    chunks = _chunks(file, block * _BLOCK_BYTES, lambda done: on_bytes(done, file.size_bytes))
    done = await connection.run(words, stdin=chunks, timeout_s=None)
    if done.code:
        raise MachineError(
            f"{connection.host} refused a file transfer: {brief_printable(done.stderr)}. Look at "
            "the free space there and at who may write."
        )


def _chunks(file: UploadFile, start: int, on_bytes: Callable[[int], None]) -> Iterator[bytes]:
    """Yield a file from a byte on, and report each chunk that was taken."""
    with file.path.open("rb") as source:
        source.seek(start)
        while chunk := source.read(_CHUNK_BYTES):
            yield chunk
            start += len(chunk)
            on_bytes(start)


async def _write_error(
    connection: Connection, file: UploadFile, folder: str, error: MachineError
) -> MachineError:
    """Return the error of a failed write, and remove the part if the disk is full."""
    script = 'df -Pk -- "$1" | tail -n 1; rm -f -- "$1/$2.part"'
    result = await connection.run(["sh", "-s", "--", folder, file.sha256], stdin=script)
    free_bytes = parse_free_bytes(result.stdout)
    if free_bytes is not None and free_bytes < file.size_bytes:
        return MachineError(
            f"The disk of {connection.host} is full: {file.size_bytes} bytes do not fit into "
            f"{folder}. What was written is removed. Free some space there and deploy again."
        )
    return error


def parse_free_bytes(line: str) -> int | None:
    """Return the free bytes of a line of `df -Pk`, None if there are none in it.

    >>> parse_free_bytes("//nas/my share 1000 400 600 40% /mnt/my share")
    614400
    """
    sizes = re.search(r" (\d+) +\d+% ", line)  # names of source and place may have blanks
    return int(sizes[1]) * 1024 if sizes else None


def _head(path: Path, size: int) -> str:
    """Return the SHA-256 of a file's first bytes."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while size and (chunk := stream.read(min(size, _CHUNK_BYTES))):
            digest.update(chunk)
            size -= len(chunk)
    return digest.hexdigest()


def _last_line(stderr: str) -> str:
    return stderr.strip() or "it does not say why"
