"""Faults of tables that a reader must refuse, or may."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from random import Random
from typing import Literal

from fuzzing.tables import TIME_NAMES, Table, TablePair, label_at

_Apply = Callable[[Random, TablePair], bool]


@dataclass(frozen=True)
class Twist:
    """A change to tables before they are written."""

    apply: _Apply  # returns whether it fits
    layouts: tuple[str, ...]
    expected: Literal["refused", "either"] = "refused"


def _add_column(name: str, fill: Callable[[int], str]) -> _Apply:
    def apply(_: Random, pair: TablePair) -> bool:
        for table in (pair.train, pair.test):
            is_told = name == "targets" and pair.roles.label is not None
            if name in table.names or is_told or pair.has_ranges:  # the rest is ignored
                return False
            table.names.insert(1, name)
            for at, row in enumerate(table.rows):
                row.insert(1, fill(at))
        return True

    return apply


def _in_training(change: Callable[[Random, Table, TablePair], bool]) -> _Apply:
    return lambda random, pair: change(random, pair.train, pair)


def _cell(text: str) -> _Apply:
    """A cell of values that holds something else."""

    def change(random: Random, table: Table, pair: TablePair) -> bool:
        name = random.choice(table.values) if table.values else ""
        at = table.names.index(name) if name else len(table.rows[0]) - 1
        row = random.choice(table.rows)
        if at >= len(row) or pair.is_parquet or (pair.roles.label is not None and not name):
            return False
        row[at] = text
        return True

    return _in_training(change)


def _no_label(_: Random, table: Table, pair: TablePair) -> bool:
    at = label_at(table, pair)
    if at is None:
        return False
    if pair.is_long:
        first = table.rows[0][_id_at(table, pair)]
        for row in table.rows:
            if row[_id_at(table, pair)] == first:
                row[at] = ""
    else:
        table.rows[1][at] = ""
    return True


def _one_class(_: Random, table: Table, pair: TablePair) -> bool:
    at = label_at(table, pair)
    if at is None:
        return False
    for row in table.rows:
        row[at] = "same"
    return True


def _new_class(_: Random, pair: TablePair) -> bool:
    at = label_at(pair.test, pair)
    if at is None:
        return False
    for row in pair.test.rows:
        row[at] = "unheard-of"
    return True


def _id_at(table: Table, pair: TablePair) -> int:
    names = {str(pair.roles.id)} if pair.roles.id else {"id", "ID", "series", "case_id", "uid"}
    return next(at for at, name in enumerate(table.names) if name in names)


def _time_at(table: Table, pair: TablePair) -> int:
    names = {str(pair.roles.time)} if pair.roles.time else set(TIME_NAMES)
    return next(at for at, name in enumerate(table.names) if name in names)


def _time_twice(_: Random, table: Table, pair: TablePair) -> bool:
    table.rows.append(list(table.rows[-1]))
    return True


def _no_time(_: Random, table: Table, pair: TablePair) -> bool:
    table.rows[2][_time_at(table, pair)] = ""
    return True


def _other_time(_: Random, table: Table, pair: TablePair) -> bool:
    table.rows[2][_time_at(table, pair)] = "soon"
    return True


def _ambiguous(_: Random, pair: TablePair) -> bool:
    pair.roles = replace(pair.roles, time_format=None)
    for table in (pair.train, pair.test):
        seen: dict[str, int] = {}
        for row in table.rows:
            name = row[_id_at(table, pair)]
            seen[name] = seen.get(name, 0) + 1
            row[_time_at(table, pair)] = f"0{(seen[name] - 1) % 9 + 1}/0{seen[name] // 9 + 1}/2024"
    return True


def _midnight(step_hours: int) -> _Apply:
    """Clock times in the order of the file, which pass midnight."""

    def apply(_: Random, pair: TablePair) -> bool:
        if "rows shuffled" in pair.traits or pair.roles.resample_step is not None:
            return False
        pair.roles = replace(pair.roles, time_format=None)
        pair.board_reads = True
        for table in (pair.train, pair.test):
            seen: dict[str, int] = {}
            for row in table.rows:
                name = row[_id_at(table, pair)]
                seen[name] = seen.get(name, -1) + 1
                minutes = 23 * 60 + step_hours * 5 * seen[name]
                row[_time_at(table, pair)] = f"{minutes // 60 % 24}:{minutes % 60:02}"
        return True

    return apply


def _two_codes(_: Random, table: Table, pair: TablePair) -> bool:
    at = label_at(table, pair)
    if at is None or pair.is_long:
        return False
    for number, row in enumerate(table.rows):
        row[at] = ("7", "007")[number % 2]
    return True


def _twice_named(_: Random, pair: TablePair) -> bool:
    if len(pair.train.values) < 2 or pair.is_long or pair.has_ranges or pair.is_parquet:
        return False
    for table in (pair.train, pair.test):
        at, other = (table.names.index(name) for name in table.values[:2])
        table.names[other] = table.names[at]
    return True


def _short_row(random: Random, table: Table, pair: TablePair) -> bool:
    if pair.is_parquet:
        return False
    random.choice(table.rows).pop(0)
    return True


def _set(**settings: object) -> _Apply:
    def apply(_: Random, pair: TablePair) -> bool:
        pair.roles = replace(pair.roles, **settings)  # type: ignore[arg-type]
        return True

    return apply


def _no_settings(_: Random, pair: TablePair) -> bool:
    named = (pair.roles.label, pair.roles.group, pair.roles.ignore)
    if not any(named) or pair.is_long or not pair.train.has_header:
        return False
    if pair.roles.label and any(
        name.strip().lower() in {"label", "class", "target", "labels", "class_name"}
        for name in pair.train.names
    ):
        return False
    pair.roles = replace(pair.roles, label=None, group=None, ignore=())
    return True


TWISTS = {
    "unknown column": Twist(_add_column("subject7b x", lambda at: str(at % 3)), ("wide",)),
    "unknown text": Twist(_add_column("place", lambda at: "abc"[at % 3]), ("wide", "long")),
    "unknown constant": Twist(_add_column("subject", lambda _: "3"), ("wide", "long")),
    "unknown counter": Twist(_add_column("n", str), ("wide", "long")),
    "two labels": Twist(_add_column("targets", lambda at: "uv"[at % 2]), ("wide",)),
    "infinite": Twist(_cell("inf"), ("wide", "bare", "long")),
    "beyond float32": Twist(_cell("1e39"), ("wide", "long")),
    "no number": Twist(_cell("what"), ("wide", "long")),
    "number of Python": Twist(_cell("1_000"), ("wide", "long")),
    "thousands": Twist(_cell("1,234.5"), ("wide", "long")),
    "no label": Twist(_in_training(_no_label), ("wide", "long")),
    "one class": Twist(_in_training(_one_class), ("wide", "long")),
    "new class": Twist(_new_class, ("wide", "long")),
    "7 and 007": Twist(_in_training(_two_codes), ("wide",)),
    "a name twice": Twist(_twice_named, ("wide",)),
    "a short row": Twist(_in_training(_short_row), ("long",)),
    "a time twice": Twist(_in_training(_time_twice), ("long",)),
    "no time": Twist(_in_training(_no_time), ("long",)),
    "another time": Twist(_in_training(_other_time), ("long",)),
    "ambiguous dates": Twist(_ambiguous, ("long",)),
    "past midnight": Twist(_midnight(1), ("long",), "either"),
    "hours past midnight": Twist(_midnight(96), ("long",), "either"),
    "no such column": Twist(_set(label="nope"), ("wide", "long")),
    "resampling without times": Twist(_set(resample_step=2.0), ("wide", "bare")),
    "no settings": Twist(_no_settings, ("wide",)),
}
