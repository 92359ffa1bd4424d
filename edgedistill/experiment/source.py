"""The text of a plan, in which every key has a line, and every part can be read alone."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

import yaml

from edgedistill.errors import ConfigError


class Source:
    """The text of a plan, in which every key has a line."""

    def __init__(self, text: str, origin: str, root: yaml.MappingNode) -> None:
        self.text, self.origin, self._root = text, origin, root
        self._marks = dict(_marks(root))

    def message_at(self, path: Iterable[str], sentence: str) -> str:
        """Return a sentence with the place of the nearest key that is written."""
        keys = tuple(path)
        while keys and keys not in self._marks:
            keys = keys[:-1]
        line = f", line {self._marks[keys][0]}" if keys else ""
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
        node = self._marks[path][1]
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


def _marks(
    node: yaml.Node, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], tuple[int, yaml.Node]]]:
    """Yield the line, from 1, and the value of every key."""
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield (*path, str(key.value)), (key.start_mark.line + 1, value)
            yield from _marks(value, (*path, str(key.value)))


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
