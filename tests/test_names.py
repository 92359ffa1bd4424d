"""Public names say what a thing is, in the words of the field.

A name from a private picture, or a participle that stands alone, tells a reader who greps for the
field's term nothing. Names that files and commands promise stay, each with its reason.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import edgedistill_kernels
import pytest

import edgedistill

METAPHORS = {
    *("account", "accounts", "answer", "answers", "answering", "ask", "asks", "asked", "atlas"),
    *("bank", "beginning", "bring", "brought", "climb", "climbed", "courses", "ending", "foremost"),
    *("fresh", "ground", "hear", "heard", "journey", "knowledge", "lesson", "lessons", "nursery"),
    *("opponent", "opponents", "opposing", "parcel", "question", "questions", "rung", "rungs"),
    *("said", "say", "says", "sensible", "shipment", "speak", "standing", "standings", "taught"),
    *("tell", "tells", "told", "twin", "voice", "voices", "weigh", "witness"),
}
PARTICIPLES = {
    *("built", "chosen", "covered", "drawn", "ended", "failed", "found", "given", "held", "joined"),
    *("judged", "kept", "known", "left", "made", "measured", "opened", "paired", "recovered"),
    *("reserved", "seen", "shared", "taken", "trained", "tried", "wanted", "written"),
}
ALLOWED = {
    # Recipe keys and their defaults.
    "bank": "recipe key of `tsd` and `cutmix_kd`",
    "bank_mib": "recipe key of `tsd` and `cutmix_kd`",
    # Written to files.
    "chosen": "key of a bundle's manifest and of report.json",
    "ended": "key of what `benchmark --json` prints",
    "failed": "key of what `release settle --json` prints",
    "measured": "key of a clause in report.json",
    "question": "key of a test in what `drift --json` prints",
    "seen": "key of a finding in what `doctor --json` prints",
    # The field's own words.
    "mel_bank": "a bank of filters",
}


def words(name: str) -> list[str]:
    """Return the words of a name in snake or camel case, in lower case.

    >>> words("BankPlan"), words("bank_plan"), words("TSDTerm")
    (['bank', 'plan'], ['bank', 'plan'], ['tsd', 'term'])
    """
    return [part.lower() for part in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+", name)]


def is_banned(name: str) -> bool:
    """Return whether a name holds a banned metaphor or is a participle alone."""
    if name in ALLOWED:
        return False
    parts = words(name)
    return bool(METAPHORS.intersection(parts)) or (len(parts) == 1 and parts[0] in PARTICIPLES)


def public_names(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yield line and name of every public class, function, parameter, field and constant."""
    for node in tree.body:
        yield from _names(node)


def _names(node: ast.AST) -> Iterator[tuple[int, str]]:
    if isinstance(node, ast.If | ast.Try):
        for inner in ast.iter_child_nodes(node):
            yield from _names(inner)
    elif isinstance(node, ast.Assign | ast.AnnAssign):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        for name in (n for target in targets for n in ast.walk(target)):
            if isinstance(name, ast.Name) and not name.id.startswith("_"):
                yield name.lineno, name.id
    elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        special = node.name.startswith("__") and node.name.endswith("__")
        if node.name.startswith("_") and not special:
            return
        yield node.lineno, node.name
        arguments = node.args
        for argument in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs):
            yield argument.lineno, argument.arg
        for inner in ast.walk(node):
            if isinstance(inner, ast.Attribute) and isinstance(inner.ctx, ast.Store):
                is_own = isinstance(inner.value, ast.Name) and inner.value.id == "self"
                if is_own and not inner.attr.startswith("_"):
                    yield inner.lineno, inner.attr
    elif isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
        yield node.lineno, node.name
        for inner in node.body:
            yield from _names(inner)


def _modules() -> list[Path]:
    roots = [Path(package.__path__[0]) for package in (edgedistill, edgedistill_kernels)]
    return [path for root in roots for path in sorted(root.rglob("*.py"))]


def test_public_names_are_terms_of_the_field() -> None:
    """No public module, class, function, parameter or field has a banned name."""
    banned = []
    for path in _modules():
        if is_banned(path.stem):
            banned.append(f"{path}: module {path.stem}")
        for line, name in public_names(ast.parse(path.read_text(encoding="utf-8"))):
            if is_banned(name):
                banned.append(f"{path}:{line}: {name}")

    assert not banned, "\n".join(["Name what it is, in the field's words:", *banned])


def test_allowed_names_are_in_use() -> None:
    """An exception that nothing needs any more is removed."""
    used = {
        name
        for path in _modules()
        for _, name in public_names(ast.parse(path.read_text(encoding="utf-8")))
    }

    assert set(ALLOWED) <= used


@pytest.mark.parametrize(
    "source",
    [
        "class Voice: ...",
        "class BankPlan: ...",
        "def ask(teacher): ...",
        "def fit(model, *, told=None): ...",
        "class Outcome:\n    kept: bool",
        "class Runner:\n    def __init__(self, found): ...",
        "class Runner:\n    def run(self):\n        self.answers = []",
        "Told = tuple[int, int]",
    ],
)
def test_guard_fails_on_a_banned_name(source: str) -> None:
    """Each kind of public name is looked at."""
    assert any(is_banned(name) for _, name in public_names(ast.parse(source)))


def test_guard_leaves_private_names_and_locals_alone() -> None:
    """What only one module or function sees is not the guard's business."""
    source = "def fit(model):\n    found = 1\n\ndef _asked(told): ...\n\nclass _Voice: ...\n"

    assert not any(is_banned(name) for _, name in public_names(ast.parse(source)))
