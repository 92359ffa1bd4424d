"""Plan of an experiment: sets, methods and seeds, in one YAML file.

All recipes of the plan are built when it is read, so that a mistake in the last method is
reported before the first teacher is trained.
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

from edgedistill.distillation.configs.config import Section
from edgedistill.errors import ConfigError, brief
from edgedistill.recipe import yaml_text
from edgedistill.recipe.recipe import Recipe
from edgedistill.recipe.recipe import parse as parse_recipe
from edgedistill.recipe.schema import ModelSection

Seed = Annotated[StrictInt, Field(ge=0, lt=1 << 32)]
_NAME = re.compile(r"\w[\w .,+=()-]*")  # also the name of a folder
_SEED = "seed"  # key of a recipe that the plan sets by seeds and teacher_seed


@dataclass(frozen=True, slots=True)
class Plan:
    """An experiment: a recipe for every set and method, and the seeds of the students."""

    text: str  # text of the plan's file
    sets: Mapping[str, Recipe]  # settings that all methods of a set share, with the teacher's seed
    methods: Mapping[tuple[str, str], Recipe]  # by set and method, with the teacher's seed
    seeds: tuple[int, ...]

    @property
    def runs(self) -> list[tuple[str, str, int]]:
        """Set, method and seed of every run, in the order of the table."""
        return [(*pair, seed) for pair, seed in itertools.product(self.methods, self.seeds)]


class _PlanText:
    """Text of a plan, with the line of every key."""

    def __init__(self, text: str, origin: str, root: yaml.MappingNode) -> None:
        self.text, self.origin = text, origin
        self._positions = dict(_key_positions(root))

    def message_at(self, path: Iterable[str], sentence: str) -> str:
        """Error message with the line of a key, or of the nearest section that the text has."""
        keys = tuple(path)
        while keys and keys not in self._positions:
            keys = keys[:-1]
        line = f", line {self._positions[keys][0]}" if keys else ""
        return f"{self.origin}{line}: {sentence}"

    def cut(self, *path: str) -> str:
        """Cut out the text below a key, in its own lines and columns, the rest blank.

        A part that refers to an anchor elsewhere cannot be read alone: it is dumped as YAML,
        and its lines are lost.
        """
        node = self._positions[path][1]
        first, last = node.start_mark.index, node.end_mark.index
        before = re.sub(r"[^\n]", " ", self.text[:first])
        part = before + self.text[first:last]
        try:
            yaml.compose(part, Loader=yaml.SafeLoader)
        except yaml.YAMLError:
            _, tree = yaml_text.parse(self.text, self.origin)
            for key in path:
                tree = tree[key]
            return yaml.safe_dump(tree, sort_keys=False)
        return part


class _PlanSection(Section):
    """Keys of a plan; recipes are checked once they are combined."""

    recipe: dict[str, Any] | None = None
    data: (
        Annotated[tuple[str, ...], Field(min_length=1)]
        | Annotated[dict[str, dict[str, Any] | None], Field(min_length=1)]
    )
    methods: dict[str, dict[str, Any] | None] = Field(min_length=1)
    seeds: tuple[Seed, ...] = Field((1, 2, 3), min_length=1)
    teacher_seed: Seed = 0


def load(path: Path) -> Plan:
    """Read the plan in a YAML file.

    Raises:
        ConfigError: the plan is invalid; the message names file, line and key.
    """
    return parse(yaml_text.read_text(path, "plan"), origin=str(path))


def parse(text: str, *, origin: str = "plan") -> Plan:
    """Parse the plan in a YAML text; `origin` names it in messages."""
    root, values = yaml_text.parse(text, origin)
    if not isinstance(root, yaml.MappingNode):
        raise ConfigError(
            f"{origin} holds {type(values).__name__}, a plan is a mapping with data and methods."
        )
    source = _PlanText(text, origin, root)
    try:
        section = _PlanSection.model_validate(values)
    except ValidationError as error:
        raise ConfigError("\n".join(_messages(error, source))) from error
    return _expand(section, source)


def _expand(section: _PlanSection, source: _PlanText) -> Plan:
    """Build all recipes of a plan."""
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
    _check_initial_weights(plan, source)
    return plan


def _check_initial_weights(plan: Plan, source: _PlanText) -> None:
    """Refuse students with the initial weights of their teacher, who share more than outputs."""
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
    """Settings of each set by its name."""
    if isinstance(section.data, tuple):
        names = [Path(item).stem.removesuffix("_TRAIN") for item in section.data]
        _check_distinct(names, ("data",), source)
        sets = {
            name: {"data": {"train": item}} for name, item in zip(names, section.data, strict=True)
        }
    else:
        _check_distinct(section.data, ("data",), source)
        sets = {name: _set(name, part or {}) for name, part in section.data.items()}
        for name, part in section.data.items():
            _check_part(part or {}, ("data", name), source)
    for name in sets:
        _check_name(name, ("data", name), source)
    return sets


def _set(name: str, part: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of a set; without data of its own, its name is that of its data."""
    own = part.get("data", {})
    data = {"train": own} if isinstance(own, str) else {"train": name, **(own or {})}
    return {**part, "data": data}


def _check_method(part: Mapping[str, Any], name: str, source: _PlanText) -> None:
    """Refuse settings that would give a method another teacher or other series than the others."""
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
    """Parse a part of a recipe alone, with the lines of its keys."""
    if _SEED in part:
        raise ConfigError(
            source.message_at(
                (*path, _SEED),
                f"{'.'.join((*path, _SEED))}: set seeds for the students, and teacher_seed "
                "for teachers and splits, at the top of the plan.",
            )
        )
    if part:  # data may be a name alone here
        above: dict[str, Any] = {"data": {}} if isinstance(part.get("data"), str) else {}
        parse_recipe(
            source.cut(*path), file_overrides=above, origin=source.origin, is_complete=False
        )


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
    """Refuse names that are equal for a file system without case."""
    counts = Counter(name.casefold() for name in names)
    repeated = [name for name, count in counts.items() if count > 1]
    if repeated:
        raise ConfigError(
            source.message_at(path, f"{path[0]} names {repeated[0]} twice. Give each its own name.")
        )


def _recipe(values: Mapping[str, Any], source: _PlanText) -> Recipe:
    return parse_recipe("", file_overrides=values, origin=source.origin)


def _combined(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Merge settings section by section; those above win."""
    merged = dict(below)
    for key, value in above.items():
        inner = merged.get(key)
        if isinstance(inner, Mapping) and isinstance(value, Mapping):
            value = _combined(inner, value)
        merged[key] = value
    return merged


def _messages(error: ValidationError, source: _PlanText) -> Iterator[str]:
    """Yield an error message for each invalid key of the plan."""
    keys, reported = list(_PlanSection.model_fields), set()
    for fault in error.errors(include_url=False):
        path = tuple(str(part) for part in fault["loc"])
        if path[0] in reported:
            continue  # the other arm of a union has the same error
        reported.add(path[0])
        if fault["type"] == "extra_forbidden":
            near = difflib.get_close_matches(path[0], keys, n=1)
            hint = f"Did you mean {near[0]}? " if near else ""
            sentence = f"there is no key {path[0]}. {hint}Allowed here: {', '.join(keys)}."
        elif fault["type"] == "missing":
            sentence = f"{path[0]} is missing. A plan has data and methods."
        elif path[0] == "data":
            sentence = (
                "data must be a list of names or paths, or a mapping of names to settings, "
                f"and not be empty; got {brief(fault['input'])}."
            )
        else:
            sentence = f"{'.'.join(path)} is {brief(fault['input'])}. {fault['msg']}."
        yield source.message_at(path, sentence)


def _key_positions(
    node: yaml.Node, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], tuple[int, yaml.Node]]]:
    """Yield line, from 1, and value of every key."""
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield (*path, str(key.value)), (key.start_mark.line + 1, value)
            yield from _key_positions(value, (*path, str(key.value)))
