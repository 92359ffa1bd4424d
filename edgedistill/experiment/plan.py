"""The plan of an experiment: which sets, methods and seeds, in one YAML file.

Every recipe that the plan stands for is made when it is read, so that a mistake
in the last method is told before the first teacher is trained.
"""

from __future__ import annotations

import difflib
import itertools
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import Field, StrictInt, ValidationError

from edgedistill.distillation.objectives.config import Section
from edgedistill.errors import ConfigError
from edgedistill.recipe import recipe as config
from edgedistill.recipe.recipe import Recipe
from edgedistill.recipe.schema import ModelSection

Seed = Annotated[StrictInt, Field(ge=0)]
_NAME = re.compile(r"\w[\w .,+=()-]*")  # becomes a folder
_OF_THE_PLAN = "seed"  # a recipe's key that seeds and teacher_seed decide


@dataclass(frozen=True, slots=True)
class Plan:
    """An experiment: a recipe for every set and method, and the seeds of the students."""

    text: str  # as it was read
    sets: Mapping[str, Recipe]  # what every method of a set shares; its seed is the teacher's
    methods: Mapping[tuple[str, str], Recipe]  # by set and method; the seed is the teacher's too
    seeds: tuple[int, ...]

    @property
    def runs(self) -> list[tuple[str, str, int]]:
        """Return set, method and seed of every run, in the order of the table."""
        return [(*pair, seed) for pair, seed in itertools.product(self.methods, self.seeds)]


class _PlanText:
    """The text of a plan, in which every key has a line."""

    def __init__(self, text: str, origin: str, root: yaml.MappingNode) -> None:
        self.text, self.origin, self._root = text, origin, root
        self._positions = dict(_key_positions(root))

    def message_at(self, path: Iterable[str], sentence: str) -> str:
        """Return a sentence with the place of the nearest key that is written."""
        keys = tuple(path)
        while keys and keys not in self._positions:
            keys = keys[:-1]
        line = f", line {self._positions[keys][0]}" if keys else ""
        return f"{self.origin}{line}: {sentence}"

    def refuse_repeated_keys(self) -> None:
        """Refuse a key that stands twice: YAML would silently take the last."""
        repeated = _repeated(self._root)
        if repeated is not None:
            key, line = repeated
            raise ConfigError(
                f"{self.origin}, line {line}: {key} stands twice. Give each its own name."
            )

    def cut(self, *path: str) -> str:
        """Return the part of the text below a key, in its own lines and columns, all else blank.

        A part that names an anchor written elsewhere cannot be read alone: it is written anew,
        and its lines are lost.
        """
        node = self._positions[path][1]
        first, last = node.start_mark.index, node.end_mark.index
        before = re.sub(r"[^\n]", " ", self.text[:first])
        part = before + self.text[first:last]
        try:
            yaml.compose(part, Loader=yaml.SafeLoader)
        except yaml.YAMLError:
            tree = yaml.safe_load(self.text)
            for key in path:
                tree = tree[key]
            return yaml.safe_dump(tree, sort_keys=False)
        return part


class _PlanSection(Section):
    """The plan as it is written; recipes are checked once they are put together."""

    recipe: dict[str, Any] | None = None
    data: (
        Annotated[tuple[str, ...], Field(min_length=1)]
        | Annotated[dict[str, dict[str, Any] | None], Field(min_length=1)]
    )
    methods: dict[str, dict[str, Any] | None] = Field(min_length=1)
    seeds: tuple[Seed, ...] = Field((1, 2, 3), min_length=1)
    teacher_seed: Seed = 0


def load(path: Path) -> Plan:
    """Return the plan in a YAML file.

    Raises:
        ConfigError: it makes no sense; the message names file, line and key.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"Cannot read the plan {path}: {error}. Check the path.") from error
    return parse(text, origin=str(path))


def parse(text: str, *, origin: str = "plan") -> Plan:
    """Return the plan in a YAML text; `origin` names it in messages."""
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        values = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"{origin} is not valid YAML: {error}") from error
    if not isinstance(root, yaml.MappingNode):
        raise ConfigError(
            f"{origin} holds {type(values).__name__}, a plan is a mapping with data and methods."
        )
    source = _PlanText(text, origin, root)
    source.refuse_repeated_keys()
    try:
        written = _PlanSection.model_validate(values)
    except ValidationError as error:
        raise ConfigError("\n".join(_messages(error, source))) from error
    return _expand(written, source)


def _expand(section: _PlanSection, source: _PlanText) -> Plan:
    """Return the recipes that a plan stands for."""
    recipe = dict(section.recipe or {})
    _check_part(recipe, ("recipe",), source)
    sets = _sets(section, source)
    methods = {name: part or {} for name, part in section.methods.items()}
    for name, part in methods.items():
        _check_name(name, ("methods", name), source)
        _check_method(part, name, source)
    _check_distinct(section.methods, ("methods",), source)
    _check_distinct(map(str, section.seeds), ("seeds",), source)
    shared = {name: _combined(recipe, part) for name, part in sets.items()}
    teacher = {"seed": section.teacher_seed}
    plan = Plan(
        text=source.text,
        sets={name: _recipe(values | teacher, source) for name, values in shared.items()},
        methods={
            (name, method): _recipe(_combined(values, part) | teacher, source)
            for name, values in shared.items()
            for method, part in methods.items()
        },
        seeds=section.seeds,
    )
    _check_beginnings(plan, source)
    return plan


def _check_beginnings(plan: Plan, source: _PlanText) -> None:
    """Refuse a student that would begin as its teacher did: it would share more than was taught."""
    for (name, method), recipe in plan.methods.items():
        teacher, student = recipe.teacher, recipe.student
        alike = all(getattr(teacher, k) == getattr(student, k) for k in ModelSection.model_fields)
        if alike and teacher.source is None and recipe.seed in plan.seeds:
            raise ConfigError(
                source.message_at(
                    ("seeds",),
                    f"{method} on {name} has the teacher's network, so seed {recipe.seed}, "
                    "which is the teacher's too, would begin with its first weights. Set other "
                    "seeds, or another teacher_seed.",
                )
            )


def _sets(section: _PlanSection, source: _PlanText) -> dict[str, dict[str, Any]]:
    """Return the settings of each set by its name."""
    if isinstance(section.data, tuple):
        names = [Path(item).stem.removesuffix("_TRAIN") for item in section.data]
        _check_distinct(names, ("data",), source)
        found = {
            name: {"data": {"train": item}} for name, item in zip(names, section.data, strict=True)
        }
    else:
        _check_distinct(section.data, ("data",), source)
        found = {name: _set(name, part or {}) for name, part in section.data.items()}
        for name, part in section.data.items():
            _check_part(part or {}, ("data", name), source)
    for name in found:
        _check_name(name, ("data", name), source)
    return found


def _set(name: str, part: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a set; without data of its own it is called as it is found."""
    named = part.get("data", {})
    data = {"train": named} if isinstance(named, str) else {"train": name, **(named or {})}
    return {**part, "data": data}


def _check_method(part: Mapping[str, Any], name: str, source: _PlanText) -> None:
    """Refuse what would give a method another teacher or other series than its rivals."""
    for key in part:
        if key != "student" and key in Recipe.model_fields:
            raise ConfigError(
                source.message_at(
                    ("methods", name, key),
                    f"methods.{name}.{key}: methods share all but the student, so that they "
                    f"compare. Set {key} under recipe or data.",
                )
            )
    _check_part(part, ("methods", name), source)


def _check_part(part: Mapping[str, Any], path: tuple[str, ...], source: _PlanText) -> None:
    """Read a part of a recipe alone, where its lines are known."""
    if _OF_THE_PLAN in part:
        raise ConfigError(
            source.message_at(
                (*path, _OF_THE_PLAN),
                f"{'.'.join((*path, _OF_THE_PLAN))}: set seeds for the students, and teacher_seed "
                "for teachers and splits, at the top of the plan.",
            )
        )
    if part:  # data may be a mere name here
        above: dict[str, Any] = {"data": {}} if isinstance(part.get("data"), str) else {}
        config.parse(source.cut(*path), above=above, origin=source.origin, whole=False)


def _check_name(name: str, path: tuple[str, ...], source: _PlanText) -> None:
    if not _NAME.fullmatch(name):
        raise ConfigError(
            source.message_at(
                path,
                f"{name!r} cannot name a folder. Use letters, digits, spaces and .,+=()-_ for the "
                "names of sets and methods.",
            )
        )


def _check_distinct(names: Iterable[str], path: tuple[str, ...], source: _PlanText) -> None:
    """Refuse names that a file system may take for one."""
    counts = Counter(name.casefold() for name in names)
    twice = [name for name, count in counts.items() if count > 1]
    if twice:
        raise ConfigError(
            source.message_at(path, f"{path[0]} names {twice[0]} twice. Give each its own name.")
        )


def _recipe(values: Mapping[str, Any], source: _PlanText) -> Recipe:
    return config.parse("", above=values, origin=source.origin)


def _combined(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of both, section by section; those above win."""
    found = dict(below)
    for key, value in above.items():
        inner = found.get(key)
        if isinstance(inner, Mapping) and isinstance(value, Mapping):
            value = _combined(inner, value)
        found[key] = value
    return found


def _messages(error: ValidationError, source: _PlanText) -> Iterator[str]:
    """Yield a sentence for each key of the plan that is wrong."""
    known, told = list(_PlanSection.model_fields), set()
    for fault in error.errors(include_url=False):
        path = tuple(str(part) for part in fault["loc"])
        if path[0] in told:
            continue  # the other arm of a union says it again
        told.add(path[0])
        if fault["type"] == "extra_forbidden":
            near = difflib.get_close_matches(path[0], known, n=1)
            hint = f"Did you mean {near[0]}? " if near else ""
            sentence = f"there is no key {path[0]}. {hint}Allowed here: {', '.join(known)}."
        elif fault["type"] == "missing":
            sentence = f"{path[0]} is missing. A plan has data and methods."
        elif path[0] == "data":
            sentence = (
                "data must be a list of names or paths, or a mapping of names to settings, "
                f"and not be empty; got {fault['input']!r}."
            )
        else:
            sentence = f"{'.'.join(path)} is {fault['input']!r}. {fault['msg']}."
        yield source.message_at(path, sentence)


def _key_positions(
    node: yaml.Node, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], tuple[int, yaml.Node]]]:
    """Yield the line, from 1, and the value of every key."""
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield (*path, str(key.value)), (key.start_mark.line + 1, value)
            yield from _key_positions(value, (*path, str(key.value)))


def _repeated(node: yaml.Node) -> tuple[str, int] | None:
    """Return the first key that stands twice in one mapping, and its line."""
    if isinstance(node, yaml.MappingNode):
        seen = set()
        for key, _ in node.value:
            if key.value in seen:
                return str(key.value), key.start_mark.line + 1
            seen.add(key.value)
    children = [pair[1] for pair in node.value] if isinstance(node, yaml.MappingNode) else []
    if isinstance(node, yaml.SequenceNode):
        children = node.value
    return next((found for child in children if (found := _repeated(child))), None)
