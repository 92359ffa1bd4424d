"""The signatures of a compiled module's functions, from their docstrings.

pybind11 writes `name(self: Kind, index: int) -> Result` into a docstring, one line an overload;
Cython keeps names and defaults where `inspect` finds them.
"""

from __future__ import annotations

import inspect
import re
from typing import Any


def signatures(function: Any) -> list[tuple[list[tuple[str, bool]], str]]:
    """Return (name, required) of the parameters, and the result's type, of every overload."""
    if not (function.__doc__ or "").strip() or not hasattr(function, "__name__"):
        return []
    lines = function.__doc__.strip().splitlines()
    overloaded = any(line.strip() == "Overloaded function." for line in lines)
    mark = r"\d+\. " if overloaded else ""
    pattern = re.compile(rf"{mark}{re.escape(function.__name__)}\((.*)\)(?: -> (.*))?")
    matches = (pattern.fullmatch(line.strip()) for line in lines)
    found = [(_parameters(match.group(1)), match.group(2) or "") for match in matches if match]
    if overloaded or not found or "->" in function.__doc__:
        return found
    parameters = inspect.signature(function).parameters.values()  # Cython writes them elsewhere
    return [([(each.name, each.default is each.empty) for each in parameters], "")]


def fits(parameters: list[tuple[str, bool]], positional: int, keywords: set[str | None]) -> bool:
    """Say whether a call can be made."""
    names = [name for name, _ in parameters]
    given = {*names[:positional], *keywords}
    return (
        positional <= len(names)
        and keywords <= set(names[positional:])
        and all(name in given for name, required in parameters if required)
    )


def _parameters(text: str) -> list[tuple[str, bool]]:
    parts, depth, start = [], 0, 0
    for index, sign in enumerate(text):
        depth += (sign in "[(<{") - (sign in "])}" or (sign == ">" and text[index - 1] != "-"))
        if sign == "," and depth == 0:
            parts.append(text[start:index])
            start = index + 1
    parts.append(text[start:])
    named = [part.strip() for part in parts if part.strip() not in {"", "/", "*"}]
    return [(re.split(r"[:=]", part)[0].strip(), "=" not in part) for part in named]
