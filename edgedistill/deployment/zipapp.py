"""The device program: one file, `edgedistill-device.pyz`, that a board's own Python runs.

A zipapp of the modules that the device side imports. The imports in the sources are followed, so a
new module is included without being listed anywhere.
"""

from __future__ import annotations

import ast
import io
import stat
import zipfile
from collections.abc import Iterator
from pathlib import Path

import edgedistill_kernels

import edgedistill
from edgedistill import __version__
from edgedistill.device.releases.layout import DIGEST_SUFFIX, PROGRAM
from edgedistill.errors import IntegrityError, MachineError
from edgedistill.io import files

NAME = PROGRAM
_DEVICE = "edgedistill.device"
_FOLDERS = {
    package.__name__: Path(package.__path__[0]) for package in (edgedistill, edgedistill_kernels)
}
_DATA = "*.json"  # schemas; they travel with the package they lie in
_SHEBANG = b"#!/usr/bin/env python3\n"
_MAIN = f'''"""The device side of edgedistill {__version__}."""

import gc
import os
import sys

gc.set_threshold(50_000)  # a start makes hardly any garbage, and looking for it takes long

if sys.version_info < (3, 10):
    sys.stderr.write(
        "error: This is Python %d.%d; edgedistill-device needs 3.10 or newer. Run it with a "
        "newer one.\\n" % sys.version_info[:2]
    )
    sys.exit({MachineError.exit_code})


def check(program):
    """Refuse a program that is not the one that was installed: Python runs what it can read."""
    try:
        with open(program + "{DIGEST_SUFFIX}") as file:
            installed = file.read(64)
    except IOError:
        return  # not in a release, or one of before 0.2
    import hashlib

    with open(program, "rb") as file:
        found = hashlib.sha256(file.read()).hexdigest()
    if found != installed:
        sys.stderr.write(
            "error: %s is damaged: it has SHA-256 %s, installed was %s. Return to another "
            "release with `edgedistill rollback`, or deploy again.\\n"
            % (program, found[:12], installed[:12])
        )
        sys.exit({IntegrityError.exit_code})


program = os.path.realpath(__loader__.archive)
check(program)
# Modules are read when they are imported; by then, the link `current` may lead to another program.
sys.path[0] = program

from edgedistill.device.__main__ import main

sys.exit(main(prog="edgedistill-device"))
'''


def write_program(path: Path) -> str:
    """Write the program, whole or not at all; equal sources give equal bytes.

    Returns:
        Its SHA-256.

    Raises:
        MachineError: the package's sources are missing, or the disk refuses.
    """
    stream = io.BytesIO()
    stream.write(_SHEBANG)
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as program:
        program.writestr(_member("__main__.py"), _MAIN)
        for name, source in contents().items():
            program.writestr(_member(name), source.read_bytes())
    with files.whole_file(path) as partial:
        partial.write_bytes(stream.getvalue())
    path.chmod(0o755)
    return files.sha256(path)


def contents() -> dict[str, Path]:
    """Return the file behind each member of the program, by its path there, sorted.

    Raises:
        MachineError: the package is installed without its sources.
    """
    found: set[Path] = set()
    todo = list(_device_modules())
    while todo:
        source = _source(todo.pop())
        if source is None or source in found:
            continue
        found.add(source)
        todo += _imported(source)
        if source.stem == "__init__":
            found.update(source.parent.glob(_DATA))
    placed = {
        f"{top}/{file.relative_to(folder).as_posix()}": file
        for top, folder in _FOLDERS.items()
        for file in found
        if file.is_relative_to(folder)
    }
    return dict(sorted(placed.items()))


def _device_modules() -> Iterator[str]:
    """Yield every module of the device side."""
    top, _, inner = _DEVICE.partition(".")
    sources = sorted((_FOLDERS[top] / inner).rglob("*.py"))
    if not sources:
        raise MachineError(
            f"There are no sources of {_DEVICE} in {_FOLDERS[top]}. Install edgedistill from its "
            "wheel: python -m pip install --force-reinstall edgedistill"
        )
    for source in sources:
        parts = source.relative_to(_FOLDERS[top]).with_suffix("").parts
        yield ".".join((top, *parts)).removesuffix(".__init__")


def _imported(source: Path) -> Iterator[str]:
    """Yield the edgedistill modules that a file imports when it runs, and their packages."""
    for node in _run_nodes(ast.parse(source.read_bytes())):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        for name in names:
            parts = name.split(".")
            if parts[0] in _FOLDERS:
                yield from (".".join(parts[:end]) for end in range(1, len(parts) + 1))


def _run_nodes(node: ast.AST) -> Iterator[ast.AST]:
    """Yield a node and those in it, without what is there for type checkers alone."""
    yield node
    for child in ast.iter_child_nodes(node):
        if not (isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING"):
            yield from _run_nodes(child)


def _source(name: str) -> Path | None:
    """Return the file of a module or a package, None if the name is of something in one."""
    top, *inner = name.split(".")
    base = _FOLDERS[top].joinpath(*inner)
    choices = (base / "__init__.py", base.with_suffix(".py"))
    return next((choice for choice in choices if choice.is_file()), None)


def _member(name: str) -> zipfile.ZipInfo:
    member = zipfile.ZipInfo(name)  # of 1980, the first date that a zip can hold
    member.external_attr = (stat.S_IFREG | 0o644) << 16
    member.compress_type = zipfile.ZIP_DEFLATED
    return member
