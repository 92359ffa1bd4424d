"""The device program with its modules compiled for the Python that is here.

Python keeps no bytecode of a zipapp, and compiling takes longer than loading NumPy. A zip may
hold the bytecode itself; another version of Python passes over it and takes the sources. Nothing
is compressed: the disk has room, and every start would unpack it again.
"""

from __future__ import annotations

import marshal
import zipfile
from importlib import util
from pathlib import Path
from typing import Final

from edgedistill.errors import IntegrityError

_SHEBANG: Final = b"#!/usr/bin/env python3\n"
_UNCHECKED: Final = (1).to_bytes(4, "little")  # by a hash, and not to be compared with the source


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
    """Say whether a zipapp can be read to its last byte."""
    try:
        with zipfile.ZipFile(program) as archive:
            return archive.testzip() is None
    except (OSError, zipfile.BadZipFile):
        return False


def _bytecode(source: bytes, member: zipfile.ZipInfo) -> bytes:
    code = compile(source, member.filename, "exec", dont_inherit=True)
    return util.MAGIC_NUMBER + _UNCHECKED + util.source_hash(source) + marshal.dumps(code)
