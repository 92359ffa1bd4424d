"""Tables of labeled series, a series a row or a time step a row, as text or Parquet."""

from __future__ import annotations

import csv
import datetime
import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random

import numpy as np

from edgedistill.formats.schema import Column, Roles
from fuzzing.series_sets import SeriesSet, number_text
from fuzzing.table_times import TIME_FORMS, TimeForm

LABEL_NAMES = ("label", "Label", "class", "target", "class_name", "LABELS", " label")
_ID_NAMES = ("id", "ID", "series", "case_id", "uid")
_WORDS = (
    *("alpha", "bravo", "charlie", "delta", "echo", "foxtrot", "golf", "hotel", "india"),
    *("juliett", "kilo", "lima", "mike", "november", "oscar", "papa", "quebec", "romeo"),
    *("sierra", "tango"),
)
TIME_NAMES = ("time", "t", "timestamp", "step", "Date", "datetime", "time_s")
_WHOLE = re.compile(r"0|-?[1-9]\d{,8}")
_MOMENT = re.compile(r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(\.\d+)?")
_LABEL_NUMBER = re.compile(r"[+-]?\d*\.\d*(e[+-]?\d+)?")
_OTHERS = ("id", "", "Unnamed: 0", "group", "date", "index", "time")  # beside the values of a row
MISSING = ("NaN", "nan", "?", "NA", "null", "None", "")
_NAMES: tuple[Callable[[int, int], str], ...] = (  # of value columns, of channel and step
    lambda c, t: f"{'abc'[c]}{t}",
    lambda c, t: f"{'abc'[c]}_{t + 1}",
    lambda c, t: f"{'abc'[c]}{t:03}",
    lambda c, t: f"{t}_{'xyz'[c]}",
    lambda c, t: f"acc {'xyz'[c]} {5 * t}",
    lambda c, t: f"dim_{c}_t_{t}",
    lambda c, t: f"{'abc'[c]}{t / 10:.1f}",
)
_SINGLE: tuple[Callable[[int, int], str], ...] = (  # of one channel
    lambda _, t: f"t{t}",
    lambda _, t: f"T{t + 1}",
    lambda _, t: str(t),
    lambda _, t: str(t + 1),
    lambda _, t: f"{t / 10:.1f}",
    lambda _, t: f"{t}s",
    lambda _, t: f"2024-01-{t + 1:02}",
    lambda _, t: f"t{t}_ms",
    lambda _, t: f"v {t}",
)
_EITHER: tuple[Callable[[int, int], str], ...] = (  # names that a reader may refuse
    lambda c, t: f"t{t}_ch{c}",
    lambda c, t: f"s{t}c{c}",
    lambda c, t: f"{'abc'[c]}{t - 3}",
    lambda c, t: f"{'abc'[c]} 2024-0{1 + t // 3}-{t % 3 + 1:02}",
    lambda c, t: f"{'abc'[c]} 2024-0{1 + t // 6}-{t % 6 + 1:02}",
    lambda c, t: f"{10 + t // 6}:{t % 6}0 {'abc'[c]}",
    lambda c, t: f"{10 + t // 6}:{t % 6}0" + " y" * c,
    lambda c, t: f"{t + 1}.{c + 1}",
)


@dataclass
class Table:
    """Cells of a training or test table; `values` are the columns of numbers."""

    names: list[str]  # of its columns, also where no header is written
    rows: list[list[str]]
    values: list[str]
    has_header: bool = True


@dataclass
class TablePair:
    """Tables of a set, the settings that tell their columns, and what they hold."""

    train: Table
    test: Table
    roles: Roles
    orders: tuple[Sequence[int], Sequence[int]]  # in which the series stand in the tables
    is_long: bool
    is_sure: bool = True  # whether docs/data.md says that they are read
    board_reads: bool = True
    is_parquet: bool = False
    is_twisted: bool = False
    has_ranges: bool = False  # whether data.values names a range of columns
    decimal: str = "."
    traits: set[str] = field(default_factory=set)


def draw_wide(random: Random, content: SeriesSet, *, decimal: str, is_open: bool) -> TablePair:
    """Draw tables with a series a row, and with a header."""
    channels, is_sure = content.channels, True
    name = random.choice(_NAMES if channels > 1 or random.random() < 0.3 else _SINGLE)
    if random.random() < 0.08:
        name, is_sure = random.choice(_EITHER), False
    label = random.choice(LABEL_NAMES)
    others = random.sample(_OTHERS, random.randint(0, 2))
    if {"date", "time"} <= set(others):
        others = ["time"]
    order = random.choice(("first", "first", "last", "shuffled", "by step"))
    roles, extra = _draw_roles(random, others, label)
    label = extra.pop("label", label)
    if is_open:
        order = "first"
    widths = {one.shape[1] for part in (content.train, content.test) for one in part.series}
    has_ranges = channels == 1 and len(widths) == 1 and max(widths) < 20 and random.random() < 0.1
    if has_ranges:
        order, name, is_sure = random.choice(("first", "last")), lambda _, t: _WORDS[t], True
        last = _WORDS[max(widths) - 1]
        values = (f"{_WORDS[0]}..{last}",) if random.random() < 0.7 else _WORDS[: max(widths)]
        roles = replace(roles, values=values)
    tables = []
    for part in (content.train, content.test):
        length = max(one.shape[1] for one in part.series)
        runs = [[name(c, t) for t in range(length)] for c in range(channels)]
        values = [one for run in runs for one in run]
        placed = [run[t] for t in range(length) for run in runs] if order == "by step" else values
        heads = [label, *others, *extra]
        columns = [*placed, *heads] if order == "last" else [*heads, *placed]
        if order == "shuffled" and (channels == 1 or part is content.test):
            random.shuffle(columns)  # channels are in the order of the training file's columns
        rows = []
        for number, (one, spelled) in enumerate(zip(part.series, part.spelled, strict=True)):
            missing = random.choice(MISSING)
            cells = dict(zip(values, _texts(random, one, missing, decimal, length), strict=False))
            cells |= _other_cells(random, number, others) | {key: extra[key] for key in extra}
            cells[label] = _label_text(spelled, decimal)
            keep = one.shape[1] if is_open else length
            dropped = set(values[keep:]) if is_open else set()
            rows.append([cells[column] for column in columns if column not in dropped])
        tables.append(Table(columns, rows, values))
    orders = range(len(content.train.series)), range(len(content.test.series))
    return TablePair(*tables, roles, orders, False, is_sure, decimal=decimal, has_ranges=has_ranges)


def draw_bare(random: Random, content: SeriesSet, *, decimal: str, is_open: bool) -> TablePair:
    """Draw tables without a header: the label first, or where a setting says."""
    others: dict[str, Column] = {}
    if not is_open and random.random() < 0.4:
        others = {"label": random.choice((-1, 2, 1))}
        if random.random() < 0.4:
            others = {"label": 2, "id": 1}
    tables = []
    for part in (content.train, content.test):
        length = max(one.shape[1] for one in part.series)
        rows = []
        for number, (one, spelled) in enumerate(zip(part.series, part.spelled, strict=True)):
            missing = random.choice(MISSING[:-1])  # a first or last empty cell may be a separator
            cells = _texts(random, one, missing, decimal, length)
            cells = cells[: one.shape[1]] if is_open else cells
            if "id" in others:
                cells.insert(0, f"s{number}")
            at = {-1: len(cells), 2: 1}.get(int(others.get("label", 1)), 0)
            cells.insert(at, _label_text(spelled, decimal))
            rows.append(cells)
        tables.append(Table(list(map(str, range(len(rows[0])))), rows, [], has_header=False))
    orders = range(len(content.train.series)), range(len(content.test.series))
    widths = [{len(row) for row in table.rows} for table in tables]
    # A row without a header is told by its number of cells.
    is_sure = (is_open and len(widths[0]) > 1) or widths[0] == widths[1]
    return TablePair(*tables, Roles(**others), orders, False, is_sure, decimal=decimal)  # type: ignore[arg-type]


def draw_long(random: Random, content: SeriesSet, *, decimal: str, has_blanks: bool) -> TablePair:
    """Draw tables with a time step a row, in any order."""
    forms = [one for one in TIME_FORMS if has_blanks or " " not in TIME_FORMS[one].text(1)]
    form_name = random.choice(forms)
    form = TIME_FORMS[form_name]
    channels = random.choice((["x", "y", "z"], ["acc x", "acc y", "gyro"], ["value", "b1", "a2"]))
    channels = channels[: content.channels]
    if not has_blanks:
        channels = [name.replace(" ", "_") for name in channels]
    label, identifier, time = (
        random.choice(LABEL_NAMES),
        random.choice(_ID_NAMES),
        random.choice(TIME_NAMES),
    )
    others = random.sample(("group", "index", "Unnamed: 0"), random.randint(0, 1))
    settings: dict[str, object] = {"time_format": form.time_format}
    if random.random() < 0.2:
        label, settings["label"] = "state", "state"
    if random.random() < 0.2:
        identifier, settings["id"] = "run", "run"
    if random.random() < 0.2:
        time, settings["time"] = "moment", "moment"
    columns = [identifier, time, label, *others, *channels]
    decimals = decimal if form.time_format is None else "."
    identify = random.choice(("s{}".format, str, "{:03}".format, "run {}".format))
    if not has_blanks:
        identify = "s{}".format
    tables, orders = [], []
    arrangement = random.choice(("sorted", "shuffled", "by step"))
    for part in (content.train, content.test):
        if part is content.test or random.random() < 0.3:
            known = [one for one in columns if one not in channels]
            if part is content.test:
                random.shuffle(columns)
            else:
                random.shuffle(known)
                columns = [*known, *channels]
        rows = []
        for number, (one, spelled) in enumerate(zip(part.series, part.spelled, strict=True)):
            for step, values in enumerate(one.T):
                missing = random.choice(MISSING)
                cells = dict(
                    zip(
                        channels,
                        (number_text(random, v, missing, decimal) for v in values),
                        strict=True,
                    )
                )
                cells |= {identifier: identify(number), label: _label_text(spelled, decimal)}
                cells |= {time: form.text(step).replace(".", decimals)}
                cells |= {"group": "7", "index": str(len(rows)), "Unnamed: 0": str(len(rows))}
                rows.append((step, number, [cells[name] for name in columns]))
        if arrangement == "shuffled":
            random.shuffle(rows)
        elif arrangement == "by step":
            rows.sort(key=lambda row: row[0])
        orders.append(list(dict.fromkeys(number for _, number, _ in rows)))
        tables.append(Table(list(columns), [cells for *_, cells in rows], list(channels)))
    pair = TablePair(
        *tables,
        Roles(**settings),
        (orders[0], orders[1]),
        True,  # type: ignore[arg-type]
        board_reads=not form.has_names,
        decimal=decimal,
    )
    pair.traits.add(f"times: {form_name}")
    if arrangement == "shuffled":
        pair.traits.add("rows shuffled")
    return pair


def label_at(table: Table, pair: TablePair) -> int | None:
    """Return the place of the labels below a header."""
    if not table.has_header:
        return None
    named = str(pair.roles.label).strip().lower() if pair.roles.label else None
    return next(
        (
            at
            for at, name in enumerate(table.names)
            if (name.strip().lower() == named if named else name in LABEL_NAMES)
        ),
        None,
    )


def form_of(pair: TablePair) -> TimeForm:
    """Return the form of a long table's times."""
    return next(
        TIME_FORMS[name.removeprefix("times: ")]
        for name in pair.traits
        if name.startswith("times: ")
    )


def _draw_roles(random: Random, others: list[str], label: str) -> tuple[Roles, dict[str, str]]:
    """Draw settings, and columns whose roles only they tell, with what those hold."""
    extra: dict[str, str] = {}
    settings: dict[str, object] = {}
    if random.random() < 0.15:
        extra["label"] = "kind"
        settings["label"] = random.choice(("kind", "KIND "))
    if random.random() < 0.15:
        extra["subject"] = "3"
        settings["group" if "group" not in others and random.random() < 0.5 else "ignore"] = (
            "subject"
        )
        if "ignore" in settings:
            settings["ignore"] = ("subject",)
    if random.random() < 0.1:
        extra["second"] = "b"
        settings["ignore"] = (*settings.get("ignore", ()), "second")  # type: ignore[misc]
    del label
    return Roles(**settings), extra  # type: ignore[arg-type]


def _other_cells(random: Random, number: int, others: Sequence[str]) -> dict[str, str]:
    cells = {
        "id": f"s{number}",
        "": str(number),
        "Unnamed: 0": str(number),
        "index": str(number),
        "group": "7",
        "date": f"2024-01-{number + 1:02}",
        "time": str(number),
    }
    return {name: cells[name] for name in others}


def _label_text(spelled: str, decimal: str) -> str:
    """Return a label, a number with the decimal sign of the file."""
    return spelled.replace(".", decimal) if _LABEL_NUMBER.fullmatch(spelled) else spelled


def _texts(random: Random, one: np.ndarray, missing: str, decimal: str, width: int) -> list[str]:
    """Return the cells of a series, channel by channel, each filled up to a width."""
    full = np.pad(one, ((0, 0), (0, width - one.shape[1])), constant_values=np.nan)
    return [number_text(random, v, missing, decimal) for row in full for v in row]


@dataclass(frozen=True)
class Dialect:
    """How cells become text."""

    separator: str
    quotes_all: bool = False
    has_mark: bool = False  # of byte order
    line_end: str = "\n"
    has_blank_lines: bool = False
    has_last_end: bool = True
    spaces: str = ""  # after separators
    trailing: bool = False  # a separator at the end of every row


def draw_dialect(random: Random, separator: str) -> Dialect:
    """Draw how cells become text."""
    plain = separator == " "
    return Dialect(
        separator=separator if not plain else random.choice((" ", "  ", " ")),
        quotes_all=not plain and random.random() < 0.15,
        has_mark=random.random() < 0.15,
        line_end=random.choice(("\n", "\n", "\r\n")),
        has_blank_lines=random.random() < 0.1,
        has_last_end=random.random() < 0.9,
        spaces=" " if not plain and random.random() < 0.1 else "",
        trailing=not plain and random.random() < 0.07,
    )


def write_text(path: Path, table: Table, dialect: Dialect) -> None:
    """Write a table of text."""
    rows = [table.names, *table.rows] if table.has_header else table.rows
    lines = [_line(row, dialect) for row in rows]
    if dialect.has_blank_lines:
        lines.insert(len(lines) // 2, "")
        lines.append("")
    text = dialect.line_end.join(lines) + (dialect.line_end if dialect.has_last_end else "")
    path.write_bytes(text.encode("utf-8-sig" if dialect.has_mark else "utf-8"))


def _line(cells: Sequence[str], dialect: Dialect) -> str:
    separator = dialect.separator
    if separator.isspace() and separator != "\t":
        return separator.join(cells)
    cells = [f"{dialect.spaces if at else ''}{cell}" for at, cell in enumerate(cells)]
    if dialect.spaces:  # csv would not quote behind a blank as people do
        return separator.join(cells)
    line = io.StringIO()
    quoting = csv.QUOTE_ALL if dialect.quotes_all else csv.QUOTE_MINIMAL
    csv.writer(line, delimiter=separator, quoting=quoting, lineterminator="").writerow(cells)
    return line.getvalue() + (separator if dialect.trailing else "")


def write_parquet(path: Path, table: Table, random: Random) -> None:
    """Write a table as Parquet: numbers as doubles or floats, one column of lists if it can be."""
    import pyarrow
    from pyarrow import parquet

    kind = random.choice(("float64", "float32"))
    arrays = {}
    for at, name in enumerate(table.names):
        cells = [row[at] for row in table.rows]
        if name in table.values:
            arrays[name] = pyarrow.array([None if c in MISSING else float(c) for c in cells], kind)
        elif random.random() < 0.5 and all(map(_WHOLE.fullmatch, cells)):
            arrays[name] = pyarrow.array(list(map(int, cells)))
        elif random.random() < 0.5 and all(map(_MOMENT.fullmatch, cells)):
            moments = list(map(datetime.datetime.fromisoformat, cells))
            arrays[name] = pyarrow.array(moments, random.choice(("timestamp[us]", "timestamp[ns]")))
        else:
            arrays[name] = pyarrow.array(cells)
    parquet.write_table(pyarrow.table(arrays), path)
