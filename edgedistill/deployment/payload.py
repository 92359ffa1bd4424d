"""Payload of a deployment: bundle and device program, prepared once for all boards."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from edgedistill.bundle.manifest import SIGNATURE
from edgedistill.bundle.reader import Bundle, open_bundle
from edgedistill.deployment.zipapp import NAME, write_program
from edgedistill.errors import IntegrityError
from edgedistill.io import archives, files

_ENGINE_BYTES: Final = 64 << 20  # an engine and its timing cache, generously


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadFile:
    """A file that is uploaded, named after its content."""

    path: Path
    sha256: str
    size_bytes: int


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
        bundle: path of a folder or a zip; a zip is uploaded as it is.
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
            archive=_upload_file(_archive(bundle, opened, Path(scratch))),
            program=_upload_file(program),
            runtime=opened.model(model).runtime,
            unpacked_bytes=sum(p.stat().st_size for p in opened.root.rglob("*") if p.is_file()),
        )


def _archive(bundle: Path, bundle_reader: Bundle, scratch: Path) -> Path:
    if not bundle.is_dir():
        return bundle
    packed = scratch / "bundle.zip"
    archives.pack(bundle_reader.root, packed)
    return packed


def _upload_file(path: Path) -> UploadFile:
    return UploadFile(path=path, sha256=files.sha256(path), size_bytes=path.stat().st_size)
