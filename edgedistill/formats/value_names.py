"""Names of value columns: numbered, or clock times and dates; several alike are channels."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Mapping, Sequence

from edgedistill.errors import DataError
from edgedistill.formats.cells import quote
from edgedistill.formats.times import parse_times

_NUMBERED = re.compile(r"(?P<prefix>.*?)(?P<number>\d+(?:\.\d+)?)(?P<suffix>\D*)", re.DOTALL)
NUMBERS_ALONE = "#"  # the channel of columns whose names are numbers
_TIME_WORD = re.compile(r"(?:^|[^a-z])(?:t|time|step|timestep|s|sec|ms)[^a-z]*$")
_CHANNEL_WORD = re.compile(r"(?:^|[^a-z])(?:c|ch|chan|channel|dim|axis|sensor|lead)[^a-z]*$")
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


def are_even(numbers: Sequence[float]) -> bool:
    """Whether rising numbers have one step, such as 0.1, but for rounding."""
    steps = [later - earlier for earlier, later in itertools.pairwise(numbers)]
    return all(map(math.isfinite, steps)) and (
        not steps or 0 < max(steps) < min(steps) * (1 + 1e-6)
    )


def check_two_numbers(names: Sequence[str], groups: Mapping[str, Sequence[int]]) -> None:
    """Refuse names such as `t0_ch1`, whose first number, not the last, may be the time.

    Where channels are numbered, too, there are fewer of them than steps.

    Raises:
        DataError: names hold two numbers, and which is the time cannot be told.
    """
    alike: dict[tuple[str, str], list[str]] = {}
    for key in groups:
        found = _NUMBERED.fullmatch(key.partition("#")[0])
        shape = (found["prefix"], found["suffix"]) if found else (key, "")
        alike.setdefault(shape, []).append(key)
    for (prefix, suffix), keys in alike.items():
        is_time = _TIME_WORD.search(prefix) or _CHANNEL_WORD.search(suffix)
        is_odd = is_time or len(keys) >= len(groups[keys[0]])
        if (len(keys) > 1 and is_odd) or _are_pairs([names[at] for at in groups[keys[0]]]):
            ends = " to ".join(quote(names[groups[keys[at]][at]]) for at in (0, -1))
            raise DataError(
                f"Which number in {ends} is the channel, and which the time step, cannot be told. "
                "Name the columns by channel and time: x_0, x_1, ..., y_0, y_1, ..."
            )


def _are_pairs(names: Sequence[str]) -> bool:
    """Whether names such as 1.1, 1.2, 2.1, 2.2 hold two counters instead of one number."""
    numbers = [found["number"] for name in names if (found := _NUMBERED.fullmatch(name))]
    pairs = {tuple(number.split(".")) for number in numbers if "." in number}
    first, second = ({pair[at] for pair in pairs} for at in (0, 1))
    is_grid = len(pairs) == len(names) == len(first) * len(second)
    is_plane = is_grid and len(first) > 1 and len(second) > 1
    return is_plane and not are_even(sorted(map(float, numbers)))


def _number(name: str) -> float:
    found = _NUMBERED.fullmatch(normal_name(name))
    return float(found["number"]) if found else 0.0
