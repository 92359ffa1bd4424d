"""Cases of one reader for all: a training and a test file, and what they should be read to.

`write_case` draws everything from one seed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Literal

import numpy as np

from edgedistill.formats.schema import Roles
from edgedistill.preprocessing.transforms import SHORTEST
from fuzzing.array_files import FAULTS, spoil, write_npy, write_npz, write_ts
from fuzzing.series_sets import Part, SeriesSet, draw_set
from fuzzing.table_twists import TWISTS
from fuzzing.table_variants import Variant, write_variants
from fuzzing.tables import (
    Dialect,
    TablePair,
    draw_bare,
    draw_dialect,
    draw_long,
    draw_wide,
    form_of,
    write_parquet,
    write_text,
)

FORMATS = ("wide", "wide", "wide", "bare", "long", "long", "long", "npz", "npy", "ts")
PARQUET = ("parquet wide", "parquet long")  # need pyarrow
Expected = Literal["read", "refused", "either"]
_SEPARATORS = (
    (",", "."),
    (",", "."),
    (";", "."),
    ("\t", "."),
    (";", ","),
    ("\t", ","),
    (" ", "."),
    (" ", ","),
)


@dataclass(frozen=True)
class Case:
    """Files, and what a reader should see in them."""

    kind: str  # one of FORMATS or PARQUET
    train: Path
    test: Path
    roles: Roles
    expected: Expected
    series: tuple[list[np.ndarray], list[np.ndarray]]  # of both, float32 (C, T_i)
    labels: tuple[list[str], list[str]]
    traits: tuple[str, ...]  # what is special, for people
    variants: tuple[Variant, ...] = ()
    board_reads: bool = True
    is_exact: bool = True  # False where values are interpolated


def write_case(seed: int, folder: Path, formats: Sequence[str] = FORMATS) -> Case:
    """Draw a case and write its files into a folder."""
    random = Random(seed)
    kind = random.choice(formats)
    if kind in {"npz", "npy", "ts"}:
        return _write_arrays(random, kind, folder)
    is_parquet = kind.startswith("parquet")
    separator, decimal = (",", ".") if is_parquet else random.choice(_SEPARATORS)
    layout = kind.removeprefix("parquet ")
    pair, content = _draw_pair(random, layout, separator, decimal, is_parquet)
    pair.is_parquet = is_parquet
    expected: Expected = "read" if pair.is_sure else "either"
    resampled = None
    if layout == "long" and form_of(pair).is_even and random.random() < 0.12:
        resampled = form_of(pair).step * random.choice((1, 0.5, 2))
        pair.roles = replace(pair.roles, resample_step=resampled)
    if random.random() < 0.15:
        name = random.choice([name for name, twist in TWISTS.items() if layout in twist.layouts])
        twisted = TWISTS[name].apply(random, pair)
        if twisted:
            pair.traits.add(name)
            pair.is_twisted = True
            expected = TWISTS[name].expected
    return _write_pair(random, kind, folder, pair, content, separator, expected, resampled)


def _draw_pair(
    random: Random, layout: str, separator: str, decimal: str, is_parquet: bool
) -> tuple[TablePair, SeriesSet]:
    channels = 1 if layout == "bare" else random.choice((1, 1, 2, 3))
    if layout == "long":
        content = draw_set(random, channels=channels, is_grid=False)
        return draw_long(random, content, decimal=decimal, has_blanks=separator != " "), content
    is_open = channels == 1 and not is_parquet and random.random() < 0.4
    content = draw_set(random, channels=channels, is_grid=not is_open)
    draw = draw_bare if layout == "bare" else draw_wide
    return draw(random, content, decimal=decimal, is_open=is_open), content


def _write_pair(
    random: Random,
    kind: str,
    folder: Path,
    pair: TablePair,
    content: SeriesSet,
    separator: str,
    expected: Expected,
    resampled: float | None,
) -> Case:
    suffix = ".parquet" if kind.startswith("parquet") else random.choice((".csv", ".tsv", ".txt"))
    paths = folder / f"toys_TRAIN{suffix}", folder / f"toys_TEST{suffix}"
    if kind.startswith("parquet"):
        for path, table in zip(paths, (pair.train, pair.test), strict=True):
            write_parquet(path, table, random)
        dialect = None
    else:
        separator = _usable(separator, pair)
        dialect = draw_dialect(random, separator)
        if dialect.spaces and _needs_quotes(pair, separator):
            dialect = replace(dialect, spaces="")
        if dialect.trailing and pair.train.has_header and content.is_ragged:
            expected = "either" if expected == "read" else expected
        if not _is_clear(pair, dialect):
            expected = "either" if expected == "read" else expected
        for path, table in zip(paths, (pair.train, pair.test), strict=True):
            write_text(path, table, dialect)
        pair.traits.add(f"{dialect}")
    parts = content.train, content.test
    whole = content.expected()
    if resampled is not None:
        whole = _resampled(content, form_of(pair).step, resampled)
    if not _is_usable(whole):
        expected = "either" if expected == "read" else expected
    series = [[one[at] for at in order] for one, order in zip(whole, pair.orders, strict=True)]
    labels = [
        [one.labels[at] for at in order] for one, order in zip(parts, pair.orders, strict=True)
    ]
    return Case(
        kind,
        *paths,
        pair.roles,
        expected,
        (series[0], series[1]),
        (labels[0], labels[1]),
        tuple(sorted(pair.traits)),
        board_reads=pair.board_reads and dialect is not None,
        is_exact=resampled is None,
        variants=tuple(
            [] if pair.is_twisted else write_variants(random, folder, content, pair, dialect)
        ),
    )


def _usable(separator: str, pair: TablePair) -> str:
    """Return blanks as separators only where cells have none."""
    cells = [
        cell
        for table in (pair.train, pair.test)
        for row in (table.names, *table.rows)
        for cell in row
    ]
    if separator != " " or not any(not c or set(c) & set(" ;\t\"'") for c in cells):
        return separator
    return ";" if pair.decimal == "," else ","


def _is_clear(pair: TablePair, dialect: Dialect) -> bool:
    """Whether no cell has a sign that could separate, too."""
    others = set(";,\t") - {dialect.separator} - ({","} if pair.decimal == "," else set())
    rows = [row for table in (pair.train, pair.test) for row in (table.names, *table.rows)]
    return not any(set(cell) & others for row in rows for cell in row)


def _is_usable(series: tuple[list[np.ndarray], list[np.ndarray]]) -> bool:
    """Whether each channel of each series has a value, and each series several steps."""
    both = [one for part in series for one in part]
    return all(one.shape[1] >= SHORTEST and not np.isnan(one).all(axis=1).any() for one in both)


def _needs_quotes(pair: TablePair, separator: str) -> bool:
    rows = [row for table in (pair.train, pair.test) for row in table.rows]
    return any(set(cell) & {separator, '"'} for row in rows for cell in row)


def _resampled(
    content: SeriesSet, step: float, wanted: float
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Interpolate linearly at even steps, from the first time to the last."""
    parts = []
    for part in (content.train, content.test):
        series = []
        for one in part.series:
            times = np.arange(one.shape[1])
            share = round(wanted / step, 6)  # 0.5, 1 or 2
            grid = np.arange(int(times[-1] / share) + 1) * share
            rows = []
            for row in one.astype(np.float64):
                there = ~np.isnan(row)
                rows.append(np.interp(grid, times[there], row[there], left=np.nan, right=np.nan))
            series.append(np.stack(rows).astype(np.float32))
        parts.append(Part(series, part.labels, part.spelled))
    return SeriesSet(content.channels, *parts).expected()


def _write_arrays(random: Random, kind: str, folder: Path) -> Case:
    channels = random.choice((1, 1, 2, 3))
    is_grid = kind == "npy" or (kind == "npz" and random.random() < 0.5)
    content = draw_set(random, channels=channels, is_grid=is_grid)
    suffix = {"npz": ".npz", "npy": ".npy", "ts": ".ts"}[kind]
    stem = "x" if kind == "npy" else "toys"
    paths = folder / f"{stem}_TRAIN{suffix}", folder / f"{stem}_TEST{suffix}"
    is_flat = channels == 1 and random.random() < 0.5
    for path, part in zip(paths, (content.train, content.test), strict=True):
        if kind == "ts":
            write_ts(path, part, random)
        else:
            write = write_npz if kind == "npz" else write_npy
            write(path, part, random, is_flat=is_flat)
    series = content.expected()
    expected: Expected = "read" if _is_usable(series) else "either"
    traits: tuple[str, ...] = ()
    if random.random() < 0.1:
        traits, expected = (random.choice(FAULTS[kind]),), "refused"
        spoil(kind, traits[0], random.choice(paths))
    labels = content.train.labels, content.test.labels
    return Case(
        kind,
        *paths,
        Roles(),
        expected,
        series,
        labels,
        traits,
        tuple(write_variants(random, folder, content, None, None)),
    )
