"""YAML that a person wrote, read within bounded time and memory.

YAML itself has no bounds: aliases of aliases expand exponentially, and deep nesting exhausts the
stack. Both are refused from the stream of events, before a value is built.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from edgedistill.errors import ConfigError

MAX_BYTES = 1 << 20
MAX_DEPTH = 50  # of nested values
MAX_DIGITS = 100  # of a whole number; Python writes none of more than 4,300
MAX_VALUES = 20_000  # keys count too, and what an alias repeats counts again


def read_text(path: Path, what: str) -> str:
    """Return the text of a file.

    Args:
        path: path of the file.
        what: its kind, such as "recipe", for messages.

    Raises:
        ConfigError: the file cannot be read, or is too large.
    """
    try:
        with path.open("rb") as stream:
            content = stream.read(MAX_BYTES + 1)
        text = content.decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"Cannot read the {what} {path}: {error}. Check the path.") from error
    if len(content) > MAX_BYTES:
        raise ConfigError(
            f"The {what} {path} is larger than {MAX_BYTES >> 20} MiB. Check that it is the right "
            "file."
        )
    return text


def parse(text: str, origin: str) -> tuple[yaml.Node | None, Any]:
    """Parse a YAML text: its tree, which has the line of every key, and its values.

    Args:
        text: the text.
        origin: name of the text in messages.

    Raises:
        ConfigError: it is not valid YAML, is nested too deep, expands to too many values, or has
            a key twice.
    """
    try:
        _check_bounds(text, origin)
        loader = yaml.SafeLoader(text)
        root = loader.get_single_node()
        if root is None:
            return None, None
        _check_nodes(root, origin)
        return root, loader.construct_document(root)
    # What PyYAML raises for a day 32, a number of 5,000 digits, or a wrong tag is no YAMLError.
    except (yaml.YAMLError, ValueError, LookupError, AttributeError) as error:
        raise ConfigError(f"{origin} is not valid YAML: {error}") from error


def _check_bounds(text: str, origin: str) -> None:
    """Refuse what is nested too deep or expands to too many values."""
    sizes: dict[str | None, int] = {}  # values below each anchor that is complete
    open_values: list[tuple[str | None, int]] = [(None, 0)]  # anchor, values so far
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        mark = event.start_mark
        place = origin if mark is None else f"{origin}, line {mark.line + 1}"
        if isinstance(event, yaml.CollectionStartEvent):
            open_values.append((event.anchor, 1))
            size = 0
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, size = open_values.pop()
            sizes[anchor] = size
        elif isinstance(event, yaml.AliasEvent):
            if event.anchor in {anchor for anchor, _ in open_values}:
                raise ConfigError(f"{place}: *{event.anchor} stands in itself. Write it out.")
            size = sizes.get(event.anchor, 1)
        elif isinstance(event, yaml.ScalarEvent):
            sizes[event.anchor] = size = 1
        else:
            continue
        anchor, values = open_values[-1]
        open_values[-1] = anchor, values + size
        if len(open_values) > MAX_DEPTH + 1:
            raise ConfigError(f"{place}: values are nested deeper than {MAX_DEPTH}. Flatten them.")
        if values + size > MAX_VALUES:
            raise ConfigError(
                f"{place}: there are more than {MAX_VALUES:,} values, counting what aliases "
                "repeat. Leave some out."
            )


def _check_nodes(node: yaml.Node, origin: str) -> None:
    """Refuse long numbers, and keys that are no plain value or stand twice, the last winning."""
    if node.tag == "tag:yaml.org,2002:int" and len(node.value) > MAX_DIGITS:
        raise ConfigError(
            f"{origin}, line {node.start_mark.line + 1}: a number has {len(node.value):,} "
            f"characters; {MAX_DIGITS} are the most. Write a smaller one, or quote a text."
        )
    children = node.value if isinstance(node, yaml.SequenceNode) else []
    if isinstance(node, yaml.MappingNode):
        keys = set()
        for key, _ in node.value:
            place = f"{origin}, line {key.start_mark.line + 1}"
            if not isinstance(key, yaml.ScalarNode):
                raise ConfigError(f"{place}: a key is a {key.id}. Use a name.")
            if key.value in keys:
                raise ConfigError(f"{place}: {key.value} stands twice. Give each its own name.")
            keys.add(key.value)
        children = [value for _, value in node.value]
    for child in children:
        _check_nodes(child, origin)
