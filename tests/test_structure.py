"""Modules stay short enough to be read at once, and functions to be seen at once."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import edgedistill_kernels
import pytest

import edgedistill

MODULE_LINES = 400
FUNCTION_LINES = 40  # of signature and body; decorators and docstring do not count


def functions(source: str) -> Iterator[tuple[str, int]]:
    """Yield name and lines of every function of a module, nested ones and methods too."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name, _lines(node) - (_lines(node.body[0]) if ast.get_docstring(node) else 0)


def _lines(node: ast.stmt) -> int:
    return (node.end_lineno or node.lineno) - node.lineno + 1


def _sources() -> Iterator[tuple[Path, str]]:
    for package in (edgedistill, edgedistill_kernels):
        root = Path(package.__path__[0])
        for path in sorted(root.rglob("*.py")):
            yield path.relative_to(root.parent), path.read_text(encoding="utf-8")


def test_no_module_is_too_long() -> None:
    """A longer one has more than one idea."""
    lengths = {str(path): len(source.splitlines()) for path, source in _sources()}

    assert lengths
    assert {path: lines for path, lines in lengths.items() if lines > MODULE_LINES} == {}


def test_no_function_is_too_long() -> None:
    """A longer one has steps that deserve names."""
    too_long = {
        f"{path}: {name}": lines
        for path, source in _sources()
        for name, lines in functions(source)
        if lines > FUNCTION_LINES
    }

    assert too_long == {}


@pytest.mark.parametrize("kind", ["def", "async def"])
def test_every_kind_of_function_is_measured(kind: str) -> None:
    """Methods and nested functions as well as those of the module, without their docstrings."""
    source = f"""
class Class:
    @property
    {kind} outer(self):
        '''First line.

        Second line.
        '''
        {kind} inner():
            return 1

        return inner
"""

    assert dict(functions(source)) == {"outer": 5, "inner": 2}
