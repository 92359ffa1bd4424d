"""Roles of columns: named by settings, else recognized by usual names and by numbered names."""

from __future__ import annotations

import itertools
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from edgedistill.errors import DataError
from edgedistill.formats.cells import DecimalSign, canonical_label, is_number, quote, to_number
from edgedistill.formats.schema import Column, ColumnRole, Role, Roles
from edgedistill.formats.value_names import (
    are_channels,
    are_even,
    check_two_numbers,
    normal_name,
    numbered_groups,
)

USUAL_NAMES: Mapping[Role, frozenset[str]] = {
    "label": frozenset(
        [
            "label",
            "labels",
            "class",
            "classes",
            "class_label",
            "classlabel",
            "class_name",
            "target",
            "targets",
        ]
    ),
    "id": frozenset(
        [
            "id",
            "ids",
            "uid",
            "uuid",
            "identifier",
            "series",
            "series_id",
            "seriesid",
            "sample_id",
            "case_id",
            "case",
        ]
    ),
    "time": frozenset(
        [
            "time",
            "times",
            "t",
            "timestamp",
            "timestamps",
            "ts",
            "date",
            "datetime",
            "date_time",
            "step",
            "steps",
            "timestep",
            "time_step",
            "time_s",
            "time_ms",
            "time_us",
            "time_ns",
            "seconds",
        ]
    ),
    "group": frozenset({"group", "groups", "group_id"}),
    "index": frozenset({"", "index", "idx", "row", "row_id", "row_number", "level_0"}),
}
_ALL_USUAL_NAMES = frozenset[str]().union(*USUAL_NAMES.values()) - {""}
_UNNAMED = re.compile(r"unnamed: ?\d+")  # what pandas calls a column without a name
_RANGE = ".."


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """Where the roles stand in the rows of a table, counted from 0."""

    names: tuple[str, ...]
    roles: tuple[ColumnRole, ...]  # runs of value columns as one
    label: int | None
    id: int | None
    time: int | None
    values: tuple[tuple[int, ...], ...]  # of each channel of a wide table; long: one each
    channels: tuple[str, ...]
    remarks: tuple[str, ...] = ()

    @property
    def others(self) -> tuple[int, ...]:
        """Columns that are no values."""
        taken = {at for channel in self.values for at in channel}
        return tuple(at for at in range(len(self.names)) if at not in taken)

    @property
    def is_open(self) -> bool:
        """Whether rows may be shorter or longer than the header: the values stand last."""
        return (
            len(self.values) == 1
            and bool(self.values[0])
            and (self.values[0] == tuple(range(self.values[0][0], len(self.names))))
        )


def is_header(
    cells: Sequence[str],
    names: Collection[str] = (),
    classes: Collection[str] = (),
    decimal: DecimalSign = ".",
) -> bool:
    """Whether a first row holds names: a usual one, no number at all, or columns counted up.

    Args:
        cells: cells of the row.
        names: further names that columns can have, as `normal_name` gives them.
        classes: labels of series; a row of numbers that begins with one is a series.
        decimal: decimal sign of numbers.

    Raises:
        DataError: it cannot be told.
    """
    texts = [cell for cell in cells if not is_number(cell, decimal)]
    if not texts or (len(texts) == 1 and canonical_label(texts[0]) in classes):
        return False
    numbers = [to_number(cell, decimal) for cell in cells if is_number(cell, decimal) and cell]
    if not numbers:
        return True
    counted = [min(numbers) + i for i in range(len(numbers))]
    if has_column_name(texts, names):
        rises = all(later > earlier for earlier, later in itertools.pairwise(numbers))
        if rises or are_even(sorted(numbers)):  # columns may stand in any order
            return True
        raise DataError(
            f"The first row, {_listed(cells)}, may be a header or a series. If it is a header, "
            "number the columns of values evenly, such as t0, t1, ...; if not, put a header above "
            "it."
        )
    return numbers == counted and counted[0] in {0, 1} and len(numbers) > 1 and texts == [cells[0]]


def has_column_name(cells: Sequence[str], names: Collection[str] = ()) -> bool:
    """Whether a cell is a usual name of a column, or one of `names`."""
    return any(
        normal_name(cell) in _ALL_USUAL_NAMES or normal_name(cell) in names for cell in cells
    )


def wide_columns(
    names: Sequence[str],
    roles: Roles,
    *,
    channels: Sequence[str] = (),
    is_required: bool = True,
) -> Columns:
    """Tell the roles in a table with a series a row.

    Args:
        names: names in the header.
        roles: columns that settings name.
        channels: channels of the training table in their order, as its `Columns` have them.
        is_required: whether all columns that settings name must be there.

    Raises:
        DataError: a column that settings name is missing, or the role of one cannot be told.
    """
    assigned = _assign(names, roles, is_required=is_required)
    groups = numbered_groups(names, [at for at, role in enumerate(assigned) if role is None])
    explicit = _find(roles.values, [normal_name(name) for name in names], "values", False)
    if explicit:
        groups = {"": explicit}
    else:
        check_two_numbers(names, groups)
    numbered = {at for group in groups.values() for at in group}
    unknown = [at for at, role in enumerate(assigned) if role is None and at not in numbered]
    if unknown or not groups or not are_channels(names, groups):
        _raise_unassigned_columns(names, groups, unknown, assigned)
    if len(channels) > 1:
        if set(channels) != set(groups):
            raise DataError(
                f"The runs of value columns are {_listed(list(groups))}, in training they were "
                f"{_listed(channels)}. Name the columns as in the training data."
            )
        groups = {channel: groups[channel] for channel in channels}
    return _columns(names, assigned, tuple(map(tuple, groups.values())), tuple(groups))


def long_columns(
    names: Sequence[str],
    roles: Roles,
    *,
    channels: Sequence[str] = (),
    is_required: bool = True,
) -> Columns:
    """Tell the roles in a table with a time step a row; what has no other role is a channel.

    Args:
        names: names in the header.
        roles: columns that settings name.
        channels: names of the channels in their order, where training told them.
        is_required: whether all columns that settings name must be there.

    Raises:
        DataError: as for `wide_columns`, or a channel is missing.
    """
    if channels:
        roles = replace(roles, values=tuple(channels), ignore=())
    assigned = _assign(names, roles, is_required=is_required)
    values = [at for at, role in enumerate(assigned) if role is None or role.role == "values"]
    if channels:
        normal = [normal_name(name) for name in names]
        values = _find(channels, normal, "values", True)
    columns = _columns(
        names,
        assigned,
        tuple((at,) for at in values),
        tuple(normal_name(names[at]) for at in values),
    )
    if columns.id is None or columns.time is None:
        raise DataError(
            f"The columns are {_listed(names)}. A table with a time step a row needs one that "
            "tells the series apart and one of times: set data.id and data.time."
        )
    if not values:
        raise DataError(f"There is no column of values beside {_listed(names)}. Add a channel.")
    return columns


def describe_roles(roles: Sequence[ColumnRole]) -> str:
    """Describe in a sentence what columns were taken for.

    >>> describe_roles([ColumnRole(name="target", role="label", why="usual name")])
    'Columns: target (label).'
    """
    return f"Columns: {', '.join(f'{one.name} ({one.role})' for one in roles)}."


def has_id_and_time(names: Sequence[str], roles: Roles) -> tuple[int, int] | None:
    """Return the places of the columns of ids and times, where there is one of each."""
    assigned = _assign(names, roles, is_required=False)
    ids = [at for at, role in enumerate(assigned) if role and role.role == "id"]
    times = [at for at, role in enumerate(assigned) if role and role.role == "time"]
    return (ids[0], times[0]) if ids and times else None


def _assign(names: Sequence[str], roles: Roles, *, is_required: bool) -> list[ColumnRole | None]:
    """Return the role of each column; None where neither a setting nor its name tells it."""
    assigned: list[ColumnRole | None] = [None] * len(names)
    normal = [normal_name(name) for name in names]
    for role, column in _single_columns(roles).items():
        for at in _find([] if column is None else [column], normal, role, is_required):
            assigned[at] = ColumnRole(name=names[at], role=role, why=f"data.{role}")
    for at in _find(roles.ignore, normal, "ignore", is_required):
        assigned[at] = ColumnRole(name=names[at], role="ignored", why="data.ignore")
    for at in _find(roles.values, normal, "values", is_required):
        assigned[at] = ColumnRole(name=names[at], role="values", why="data.values")
    _assign_usual(assigned, names, normal, roles)
    if roles.values:
        assigned = [
            one or ColumnRole(name=name, role="ignored", why="not in data.values")
            for name, one in zip(names, assigned, strict=True)
        ]
    return assigned


def _assign_usual(
    assigned: list[ColumnRole | None],
    names: Sequence[str],
    normal: Sequence[str],
    roles: Roles,
) -> None:
    settings = _single_columns(roles)
    for role, usual in USUAL_NAMES.items():
        here = [
            at
            for at, name in enumerate(normal)
            if assigned[at] is None
            and (name in usual or (role == "index" and _UNNAMED.fullmatch(name)))
        ]
        # A setting counts where its column is absent, too: no other one takes its place.
        is_named = settings.get(role) is not None
        if role in {"label", "id", "time"} and len(here) > 1 and not is_named:
            raise DataError(
                f"{_listed([names[at] for at in here])} could each be the column of "
                f"{role}s. Set data.{role} to one of them."
            )
        for at in here:
            taken: Role = "ignored" if is_named and role != "index" else role
            why = f"another column is the {role}" if taken == "ignored" else "usual name"
            assigned[at] = ColumnRole(name=names[at], role=taken, why=why)


def _single_columns(roles: Roles) -> dict[Role, Column | None]:
    """Return the columns that settings name by role, where a role has one column."""
    return {"label": roles.label, "id": roles.id, "time": roles.time, "group": roles.group}


def _find(
    columns: Sequence[Column], normal: Sequence[str], key: str, is_required: bool
) -> list[int]:
    """Return the places of columns that a setting names; `a..c` is a range."""
    places: list[int] = []
    for column in columns:
        name = normal_name(str(column))
        first, dots, last = name.partition(_RANGE)
        ends = [first, last] if dots and name not in normal else [name]
        missing = [end for end in ends if end not in normal]
        if missing and is_required:
            raise DataError(
                f"data.{key} is {column!r}, which is no column. The columns are {_listed(normal)}."
            )
        if not missing:
            places += range(normal.index(ends[0]), normal.index(ends[-1]) + 1)
    return places


def _raise_unassigned_columns(
    names: Sequence[str],
    groups: Mapping[str, Sequence[int]],
    unknown: Sequence[int],
    assigned: Sequence[ColumnRole | None],
) -> None:
    found = {one.role for one in assigned if one}
    missing = [f"data.{key}" for key in ("id", "time") if key not in found]
    hint = ""
    if len(missing) == 1 and not groups:
        hint = f" If a row is a time step and not a series, start with {missing[0]}."
    if not unknown and groups:
        unknown = min(groups.values(), key=len)
    columns = _listed([names[at] for at in unknown or range(len(names))])
    raise DataError(
        f"What {columns} holds cannot be told from its name. Name it in data.label, data.id, "
        f"data.time, data.group, data.values or data.ignore.{hint}"
    )


def _columns(
    names: Sequence[str],
    assigned: Sequence[ColumnRole | None],
    values: tuple[tuple[int, ...], ...],
    channels: tuple[str, ...],
) -> Columns:
    def first(role: Role) -> int | None:
        return next((at for at, one in enumerate(assigned) if one and one.role == role), None)

    runs = tuple(_run(names, channel, assigned) for channel in values)
    others = tuple(role for role in assigned if role is not None and role.role != "values")
    return Columns(
        names=tuple(names),
        roles=(*others, *runs),
        label=first("label"),
        id=first("id"),
        time=first("time"),
        values=values,
        channels=channels,
    )


def _run(
    names: Sequence[str], channel: Sequence[int], assigned: Sequence[ColumnRole | None]
) -> ColumnRole:
    role = assigned[channel[0]]
    ends = dict.fromkeys(names[at] for at in (channel[0], channel[-1]))
    why = role.why if role else "numbered names" if len(channel) > 1 else "every other column"
    return ColumnRole(name=" to ".join(ends), role="values", why=why)


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(map(quote, names[:8]))
    return f"{shown} and {len(names) - 8} more" if len(names) > 8 else shown
