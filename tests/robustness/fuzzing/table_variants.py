"""The series of a test file in other files, as people give them to `predict`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random

import numpy as np

from fuzzing.series_sets import SeriesSet, is_padding
from fuzzing.tables import Dialect, Table, TablePair, label_at, write_text


@dataclass(frozen=True)
class Variant:
    """A file with the test series in it."""

    name: str
    path: Path
    is_sure: bool  # whether docs/predict.md says that it is read


def write_variants(
    random: Random,
    folder: Path,
    content: SeriesSet,
    pair: TablePair | None,
    dialect: Dialect | None,
) -> list[Variant]:
    """Write the test series without labels, in another order of columns, or another format."""
    made: list[Variant] = []
    if pair is not None and dialect is not None:
        for name, table, other, is_sure in _tables(random, content, pair, dialect):
            path = folder / f"{name.replace(' ', '-')}.txt"
            write_text(path, table, other)
            made.append(Variant(name, path, is_sure))
    if pair is None or pair.roles.resample_step is None:  # which needs times
        order = range(len(content.test.series)) if pair is None else pair.orders[1]
        made += _arrays(folder, content, [content.test.series[at] for at in order])
    return made


def _tables(
    random: Random, content: SeriesSet, pair: TablePair, dialect: Dialect
) -> Iterator[tuple[str, Table, Dialect, bool]]:
    table = pair.test
    at = label_at(table, pair)
    if at is not None:
        names = [name for place, name in enumerate(table.names) if place != at]
        rows = [[cell for place, cell in enumerate(row) if place != at] for row in table.rows]
        # Numbers alone that do not count up may be those of a series.
        named = [name for name in names if name]
        is_clear = not all(map(_is_number, named)) or named in (
            [str(start + step) for step in range(len(named))] for start in (0, 1)
        )
        yield "without labels", replace(table, names=names, rows=rows), dialect, is_clear
    if at is not None and not dialect.separator.isspace():
        rows = [
            ["" if place == at else cell for place, cell in enumerate(row)] for row in table.rows
        ]
        yield "empty labels", replace(table, rows=rows), dialect, True
    is_even = all(len(row) == len(table.names) for row in table.rows)
    if table.has_header and is_even and not pair.has_ranges:
        places = random.sample(range(len(table.names)), len(table.names))
        names = [table.names[place] for place in places]
        rows = [[row[place] for place in places] for row in table.rows]
        yield "other columns", replace(table, names=names, rows=rows), dialect, True
    cells = {c for row in table.rows for c in row} | set(table.names)
    if pair.decimal == "." and not any(set(c) & set(';\t ",') or not c for c in cells):
        other = Dialect(separator=random.choice((";", "\t", ",", " ")))
        yield "other separators", table, other, True
    if table.has_header and is_even and not pair.is_long and content.channels == 1:
        yield from _values_alone(content, pair, dialect)


def _values_alone(
    content: SeriesSet, pair: TablePair, dialect: Dialect
) -> Iterator[tuple[str, Table, Dialect, bool]]:
    table = pair.test
    places = [table.names.index(name) for name in table.values]
    rows = [[row[place] for place in places] for row in table.rows]
    widths = {one.shape[1] for part in (content.train, content.test) for one in part.series}
    doubtful = {"", *content.train.labels}  # a separator, or a label
    is_sure = len(widths) == 1 and not any({row[0], row[-1]} & doubtful for row in rows)
    alone = Table(table.values, rows, table.values, has_header=False)
    is_open = len(widths) > 1 and len(pair.train.values) == len(table.values)
    if is_sure or (is_open and not any(row[0] in content.train.labels for row in rows)):
        yield "values alone", alone, dialect, is_sure


def _arrays(folder: Path, content: SeriesSet, series: list[np.ndarray]) -> Iterator[Variant]:
    path = folder / "series.jsonl"
    lines = []
    for number, one in enumerate(series):
        rows = [[None if np.isnan(v) else v for v in row] for row in one.astype(float).tolist()]
        record = {"id": number, "series": rows if len(rows) > 1 else rows[0]}
        lines.append(json.dumps(record if number % 2 else record["series"]))
    path.write_text("\n".join([*lines, ""]), encoding="utf-8")
    yield Variant("JSON lines", path, True)
    width = max(one.shape[1] for one in series)
    if is_padding(content.train.series) or {one.shape[1] for one in series} == {width}:
        x = [
            np.pad(one, ((0, 0), (0, width - one.shape[1])), constant_values=np.nan)
            for one in series
        ]
        np.savez(folder / "series.npz", x=np.stack(x))
        np.save(folder / "series.npy", np.stack(x))
        yield Variant("NPZ", folder / "series.npz", True)
        yield Variant("NPY", folder / "series.npy", True)


def _is_number(name: str) -> bool:
    return name.replace(".", "").isdigit()
