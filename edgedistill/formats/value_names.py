"""Names of value columns: numbered, or clock times and dates; several alike are channels."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from edgedistill.errors import DataError
from edgedistill.formats.times import parse_times

_NUMBERED = re.compile(r"(?P<prefix>.*?)(?P<number>\d+(?:\.\d+)?)(?P<suffix>\D*)", re.DOTALL)
_TIMED = re.compile(r"\d[:/-]\d")  # in the names of columns that are called by times


def normal_name(name: str) -> str:
    """Return a column's name as it is compared."""
    return name.strip().lower()


def numbered_groups(names: Sequence[str], places: Sequence[int]) -> dict[str, list[int]]:
    """Group columns whose names differ in their last number only, in the order of the numbers.

    Names that are clock times or dates are a single group: 0:30 and 1:30 are no channels.
    """
    if any(_TIMED.search(names[at]) for at in places):
        return _timed(names, places)
    groups: dict[str, list[tuple[float, int]]] = {}
    for at in places:
        if found := _NUMBERED.fullmatch(normal_name(names[at])):
            key = f"{found['prefix']}#{found['suffix']}"
            groups.setdefault(key, []).append((float(found["number"]), at))
    return {key: [at for _, at in sorted(group)] for key, group in groups.items()}


def _timed(names: Sequence[str], places: Sequence[int]) -> dict[str, list[int]]:
    """Group columns named by their times, in the order of these; none where one is no time."""
    try:
        times = parse_times([names[at] for at in places]).values
    except DataError:
        return {}
    order = sorted(range(len(places)), key=times.__getitem__)
    return {"#": [places[index] for index in order]}


def are_channels(names: Sequence[str], groups: Mapping[str, Sequence[int]]) -> bool:
    """Whether groups of columns are channels of one series: of equal numbers, all different."""
    if list(groups) == [""]:
        return True
    if list(groups) == ["#"]:
        return len({normal_name(names[at]) for at in groups["#"]}) == len(groups["#"])
    numbers = [[_number(names[at]) for at in group] for group in groups.values()]
    return all(one == numbers[0] and len(set(one)) == len(one) for one in numbers)


def _number(name: str) -> float:
    found = _NUMBERED.fullmatch(normal_name(name))
    return float(found["number"]) if found else 0.0
