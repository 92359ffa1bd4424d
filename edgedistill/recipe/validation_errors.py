"""What is wrong with a recipe, in words: file, line, key, what was found, the nearest valid key."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from types import NoneType
from typing import Any, get_args

import yaml
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from edgedistill.distillation.objectives.config import Range, Section
from edgedistill.recipe.objectives import ObjectiveSection

_UNION_MARKS = ("float", "tuple[", "constrained", "function-", "Range")


def lines(node: yaml.Node, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], int]]:
    """Yield the line, from 1, of every key in a YAML tree."""
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
    """Yield a sentence for each thing that is wrong.

    Args:
        error: what was found when `root` was built.
        places: the line of every key, as from `lines`.
        origin: what the recipe is called in the sentences.
        root: the whole of the recipe.
    """
    faults: dict[tuple[str, ...], ErrorDetails] = {}
    for fault in error.errors(include_url=False):
        path = _path(fault["loc"])
        # The other arm of a union says it again, or the one that was meant says it better.
        if path not in faults or fault["type"] == "value_error":
            faults[path] = fault
    for path, fault in faults.items():
        if any(other != path and other[: len(path)] == path for other in faults):
            continue  # what is wrong inside says it better
        key = ".".join(path)
        if fault["type"] in {"extra_forbidden", "unexpected_keyword_argument"}:
            sentence = f"there is no key {key}. {_nearest(path, root)}"
        elif fault["type"] == "value_error":  # of _located, which names the key within the section
            sentence = f"{key}.{str(fault['ctx']['error']).removeprefix(f'{key}.')}"
            path = tuple(sentence.split()[0].split("."))
        else:
            sentence = f"{key} is {fault['input']!r}. {fault['msg']}."
        line = places.get(path) or places.get(path[:-1])
        yield f"{origin}, line {line}: {sentence}" if line else f"{origin}: {sentence}"


def _path(loc: tuple[int | str, ...]) -> tuple[str, ...]:
    """Return the keys of a location, without the names of union arms that pydantic adds."""
    arms = set(_term_names())
    return tuple(
        str(part) for part in loc if part not in arms and not str(part).startswith(_UNION_MARKS)
    )


def _nearest(path: tuple[str, ...], root: type[Section]) -> str:
    """Say which keys stand at this place, the nearest first."""
    known = _keys(path[:-1], root)
    near = difflib.get_close_matches(path[-1], known, n=1)
    hint = f"Did you mean {near[0]}? " if near else ""
    return f"{hint}Allowed here: {', '.join(known)}."


def _keys(path: tuple[str, ...], root: type[Section]) -> list[str]:
    """Return the keys that a section allows."""
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
