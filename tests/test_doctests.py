"""The examples in docstrings give what they say."""

from __future__ import annotations

import doctest
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def _with_examples() -> Iterator[str]:
    for root in (ROOT, ROOT / "kernels"):
        for source in sorted(root.glob("edgedistill*/**/*.py")):
            if ">>> " in source.read_text("utf-8"):
                parts = source.relative_to(root).with_suffix("").parts
                yield ".".join(parts).removesuffix(".__init__")


_SLOW = {"edgedistill.api.runs"}  # they train


@pytest.mark.parametrize(
    "module",
    [pytest.param(m, marks=[pytest.mark.slow] * (m in _SLOW)) for m in _with_examples()],
)
def test_examples_hold(module):
    """None is skipped, and none fails."""
    found = doctest.testmod(import_module(module))

    assert found.attempted > 0
    assert found.failed == 0


def test_a_wrong_example_would_be_found():
    """As it would be in a module."""
    example = doctest.DocTestParser().get_doctest(">>> 1 + 1\n3\n", {}, "wrong", None, 0)

    assert doctest.DocTestRunner(verbose=False).run(example, out=lambda _: None).failed == 1
