"""Each room declares its public names, and other rooms, benchmarks and docs use no others."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

import edgedistill

PACKAGE = Path(edgedistill.__path__[0])
PROJECT = PACKAGE.parent
ROOMS = sorted(path.parent.name for path in PACKAGE.glob("*/__init__.py"))


def imports(source: str, room: str | None = None) -> Iterator[tuple[str, str]]:
    """Yield room and name of everything that a text imports from other rooms than its own.

    >>> list(imports("from edgedistill.bundle.reader import Bundle", "bundle"))
    []
    >>> list(imports("from edgedistill.bundle.reader import Bundle"))
    [('bundle', 'Bundle')]
    """
    for node in ast.walk(ast.parse(source)):
        parts = (node.module or "").split(".") if isinstance(node, ast.ImportFrom) else []
        if len(parts) > 1 and parts[0] == "edgedistill" and parts[1] in ROOMS:
            if any(part.startswith("_") for part in parts):
                yield parts[1], ".".join(parts)
            elif parts[1] != room:
                yield from ((parts[1], alias.name) for alias in node.names)


def undeclared(source: str, room: str | None = None) -> list[str]:
    """Return the names that a text imports though their room does not declare them."""
    return [
        f"{other}: {name}"
        for other, name in imports(source, room)
        if name not in import_module(f"edgedistill.{other}").__all__
    ]


@pytest.mark.parametrize("room", ROOMS)
def test_public_names_of_a_room_load(room):
    """All of them, from a room that has them in order and without doubles."""
    names = import_module(f"edgedistill.{room}").__all__

    assert sorted(set(names)) == sorted(names)
    for name in names:
        if (PACKAGE / room / f"{name}.py").exists() or (PACKAGE / room / name).is_dir():
            import_module(f"edgedistill.{room}.{name}")
        assert hasattr(import_module(f"edgedistill.{room}"), name), name


@pytest.mark.parametrize("room", ROOMS)
def test_a_name_that_no_module_defines_is_no_attribute(room):
    """Lazy loading hides no typing error."""
    with pytest.raises(AttributeError, match="no_such_name"):
        import_module(f"edgedistill.{room}").no_such_name  # noqa: B018


@pytest.mark.parametrize("room", [*ROOMS, None])
def test_rooms_use_public_names_of_each_other(room):
    """Every module of the package; without a room, the benchmarks."""
    folder = PROJECT / "benchmarks" if room is None else PACKAGE / room

    wrong = {
        str(path.relative_to(PROJECT)): found
        for path in folder.rglob("*.py")
        if (found := undeclared(path.read_text("utf-8"), room))
    }

    assert not wrong


def test_docs_use_public_names():
    """In every example that imports something."""
    pages = [*PROJECT.glob("*.md"), *PROJECT.glob("docs/*.md")]
    blocks = {
        page.name: re.findall(r"```python\n(.*?)```", page.read_text("utf-8"), re.DOTALL)
        for page in pages
    }

    assert {
        name: wrong
        for name, examples in blocks.items()
        for example in examples
        if (wrong := undeclared(example))
    } == {}


@pytest.mark.parametrize(
    "source",
    [
        "from edgedistill.bundle.reader import _private",
        "from edgedistill.bundle.reader import no_such_name",
        "from edgedistill.bundle import no_such_name",
        "from edgedistill.bundle._hidden import Bundle",
    ],
)
def test_other_names_are_noticed(source):
    """A private name, one that is not declared, and a private module."""
    assert undeclared(source)
