"""Error messages of an invalid recipe: file, line, key, value, and the nearest valid key."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from types import NoneType
from typing import Any, get_args

import yaml
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from edgedistill.distillation.configs.config import Range, Section
from edgedistill.errors import brief
from edgedistill.recipe.objectives import ObjectiveSection

_UNION_MARKS = ("float", "tuple[", "constrained", "function-", "Range")


def lines(node: yaml.Node, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], int]]:
    """Yield every key in a YAML tree with its line, from 1."""
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield (*path, key.value), key.start_mark.line + 1
            yield from lines(value, (*path, key.value))
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            yield (*path, str(index)), value.start_mark.line + 1
            yield from lines(value, (*path, str(index)))


def validation_messages(
    error: ValidationError,
    places: Mapping[tuple[str, ...], int],
    origin: str,
    root: type[Section],
) -> Iterator[str]:
    """Yield an error message for each invalid key.

    Args:
        error: error of building `root`.
        places: line of every key, as of `lines`.
        origin: name of the recipe in the messages.
        root: class of the whole recipe.
    """
    faults: dict[tuple[str, ...], ErrorDetails] = {}
    for fault in error.errors(include_url=False):
        path = _path(fault["loc"])
        # Each arm of a union has an error; a value error is that of the intended arm.
        if path not in faults or fault["type"] == "value_error":
            faults[path] = fault
    for path, fault in faults.items():
        if any(other != path and other[: len(path)] == path for other in faults):
            continue  # an error inside is more precise
        key = ".".join(path)
        if fault["type"] in {"extra_forbidden", "unexpected_keyword_argument"}:
            sentence = f"there is no key {key}. {_nearest(path, root)}"
        elif fault["type"] == "value_error":  # of _located, which has the key within the section
            sentence = f"{key}.{str(fault['ctx']['error']).removeprefix(f'{key}.')}"
            path = tuple(sentence.split()[0].split("."))
        else:
            sentence = f"{key} is {brief(fault['input'])}. {fault['msg']}."
        line = places.get(path) or places.get(path[:-1])
        yield f"{origin}, line {line}: {sentence}" if line else f"{origin}: {sentence}"


def _path(loc: tuple[int | str, ...]) -> tuple[str, ...]:
    """Keys of a location, without the names of union arms that pydantic adds."""
    arms = set(_term_names())
    return tuple(
        str(part) for part in loc if part not in arms and not str(part).startswith(_UNION_MARKS)
    )


def _nearest(path: tuple[str, ...], root: type[Section]) -> str:
    """Hint at the nearest valid key, and list all of this section."""
    keys = _keys(path[:-1], root)
    near = difflib.get_close_matches(path[-1], keys, n=1)
    hint = f"Did you mean {near[0]}? " if near else ""
    return f"{hint}Allowed here: {', '.join(keys)}."


def _keys(path: tuple[str, ...], root: type[Section]) -> list[str]:
    """Keys that a section allows."""
    section: Any = root
    for part in path:
        if part == "objectives":
            return list(Range.model_fields) if path[-1] == "weight" else _term_keys()
        annotation = section.model_fields[part].annotation
        section = next((arm for arm in get_args(annotation) if arm is not NoneType), annotation)
    names = getattr(section, "model_fields", None) or section.__dataclass_fields__
    return [str(name) for name in names if name != "__pydantic_config__"]


def _term_keys() -> list[str]:
    return list(dict.fromkeys(name for term in _terms() for name in term.model_fields))


def _term_names() -> list[str]:
    return [get_args(term.model_fields["name"].annotation)[0] for term in _terms()]


def _terms() -> tuple[Any, ...]:
    return get_args(get_args(ObjectiveSection)[0])
