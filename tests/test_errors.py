"""The tree in the docstring equals the classes."""

from __future__ import annotations

import inspect
import re

import pytest

from edgedistill import errors
from edgedistill.errors import EdgeDistillError

_LINE = re.compile(r"^    (?P<indent>[│├└─ ]*)(?P<name>[A-Z]\w+) +(?P<code>\d)  \S")


def _drawn(text):
    """Return {name: (parent's name, exit code)} of a drawn tree."""
    found, above = {}, []
    for match in filter(None, map(_LINE.match, text.splitlines())):
        depth = len(match["indent"]) // 4
        above[depth:] = [match["name"]]
        parent = above[depth - 1] if depth else "Exception"
        found[match["name"]] = (parent, int(match["code"]))
    return found


def _defined():
    """Return the same of the classes."""
    classes = inspect.getmembers(errors, inspect.isclass)
    return {name: (found.__bases__[0].__name__, found.exit_code) for name, found in classes}


def test_docstring_has_the_tree_of_classes():
    """Every class is below its parent, with its exit code."""
    assert _drawn(errors.__doc__) == _defined()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("DataError                   3", "DataError                   4"),
        ("│   └── ConfigError             2", "├── ConfigError                 2"),
        ("MachineError", "EngineError"),
    ],
    ids=["code", "parent", "name"],
)
def test_check_of_the_tree_can_fail(old, new):
    """An outdated tree is found."""
    wrong = errors.__doc__.replace(old, new)

    assert wrong != errors.__doc__
    assert _drawn(wrong) != _defined()


def test_every_error_can_be_caught_as_ours():
    """One except clause catches them, and no built-in error."""
    for name in _defined():
        assert issubclass(getattr(errors, name), EdgeDistillError)
    assert not issubclass(OSError, EdgeDistillError)
    assert EdgeDistillError.__bases__ == (Exception,)
