"""Sets of labeled series, written into training and test files of every format that is read.

`write_set` draws everything from one `Random`, so that a seed is a whole case. What a reader should
see is computed here from the rule in docs/data.md, by other code than the readers'.
"""

from __future__ import annotations

import csv
import datetime
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

import numpy as np

FORMATS = ("wide", "bare", "long", "npz", "offsets", "npy", "ts")
PARQUET = ("parquet wide", "parquet long")  # need pyarrow
_LABELS = (("walk", "run"), ("1", "2"), ("-1", "1"), ("0.5", "1.5"), ("a b", "c,d"), ("7", "None"))
_LABEL_NAMES = ("label", "Label", "class", "target", "class_name")
_TIME_NAMES = ("time", "t", "timestamp", "step", "Date", "datetime")
_MISSING = ("NaN", "nan", "?", "NA")


@dataclass(frozen=True)
class WrittenSet:
    """Files, and the series that they hold as a reader should see them."""

    kind: str  # of FORMATS or PARQUET
    train: Path
    test: Path
    series: tuple[list[np.ndarray], list[np.ndarray]]  # of both, float32 (C, T_i)
    labels: tuple[list[str], list[str]]


def write_set(random: Random, folder: Path, formats: Sequence[str] = FORMATS) -> WrittenSet:
    """Draw a set and write it into a folder."""
    kind = random.choice(formats)
    channels = 1 if kind == "bare" else random.choice((1, 1, 2, 3))
    length, is_ragged = random.randint(5, 12), random.random() < 0.4
    names = random.choice(_LABELS)
    write, suffix, is_grid = _writer(kind, random, channels)
    gaps = random.choice(("none", "none", "ends", "inner"))
    parts, labels, paths = [], [], []
    for split, count in (("TRAIN", random.randint(5, 9)), ("TEST", 4)):
        part = [_series(random, channels, length, is_ragged) for _ in range(count)]
        part = [_punctured(random, one, gaps) for one in part]
        if is_grid(is_ragged):
            width = length + 4
            part = [_padded(one, width if is_ragged else length) for one in part]
        classes = [*names, *(random.choice(names) for _ in part[2:])]
        random.shuffle(classes)
        paths.append(folder / f"{'x' if kind == 'npy' else 'toys'}_{split}{suffix}")
        order = write(paths[-1], part, classes)
        parts.append([part[at] for at in order])
        labels.append([classes[at] for at in order])
    if _is_padding(parts[0]):
        parts = [[_trimmed(one) for one in part] for part in parts]
    return WrittenSet(kind, paths[0], paths[1], (parts[0], parts[1]), (labels[0], labels[1]))


_Write = Callable[[Path, list[np.ndarray], list[str]], Sequence[int]]


def _writer(kind: str, random: Random, channels: int) -> tuple[_Write, str, Callable[[bool], bool]]:
    """Return the writer of a format, its suffix, and whether ragged series need padding."""
    if kind in {"npz", "offsets", "npy"}:
        suffix = ".npy" if kind == "npy" else ".npz"
        is_flat = channels == 1 and random.random() < 0.5
        spelled = random.choice((str, bytes))

        def write(path: Path, part: list[np.ndarray], labels: list[str]) -> Sequence[int]:
            return _write_arrays(path, part, labels, kind, is_flat, spelled)

        return write, suffix, lambda _: kind != "offsets"
    if kind == "ts":
        return _write_ts, ".ts", lambda _: False
    if kind.endswith("long"):
        table = _LongTable(random, channels, is_parquet=kind.startswith("parquet"))
        return table.write, table.suffix, lambda _: False
    wide = _WideTable(random, channels, kind)
    return wide.write, wide.suffix, lambda _: not wide.may_be_short


def _write_arrays(
    path: Path, part: list[np.ndarray], labels: list[str], kind: str, is_flat: bool, spelled: type
) -> Sequence[int]:
    y = np.array(labels if spelled is str else [label.encode() for label in labels])
    if kind == "offsets":
        offsets = np.cumsum([0, *(one.shape[1] for one in part)])
        values = np.concatenate([one.T for one in part])
        np.savez(path, values=values, offsets=offsets, y=y, note=np.array("unused"))
        return range(len(part))
    x = np.stack(part)
    x = x[:, 0] if is_flat else x
    if kind == "npz":
        np.savez_compressed(path, x=x, y=y)
        return range(len(part))
    np.save(path, x)
    np.save(path.with_name(path.name.replace("x_", "y_")), y)
    return range(len(part))


def _write_ts(path: Path, part: list[np.ndarray], labels: list[str]) -> Sequence[int]:
    head = "# toys\n@problemName\tToys\n@timeStamps false\n@classLabel true " + " ".join(
        sorted({label.replace(" ", "_") for label in labels})
    )
    rows = [
        ":".join([*(",".join(map(_number, row)) for row in one.tolist()), label])
        for one, label in zip(part, labels, strict=True)
    ]
    path.write_text("\n".join([head, "@data", *rows, ""]), encoding="utf-8")
    return range(len(part))


class _WideTable:
    """A series a row, with a header or without, in any order of columns."""

    def __init__(self, random: Random, channels: int, kind: str) -> None:
        self._random = random
        self._channels = channels
        self._is_parquet = kind.startswith("parquet")
        self._has_header = kind != "bare"
        self._label = random.choice(_LABEL_NAMES)
        self._others = random.sample(("id", "", "group", "date"), random.randint(0, 2))
        self._prefix = random.choice(("t", "", "x_", "v "))
        self._order = random.choice(("first", "first", "last", "shuffled"))
        if not self._has_header:
            self._others, self._order = [], "first"
        self._separator, self._decimal = random.choice(
            ((",", "."), (";", "."), ("\t", "."), (";", ","))
        )
        is_open = channels == 1 and self._order == "first" and not self._is_parquet
        self.may_be_short = is_open and random.random() < 0.5
        self.suffix = ".parquet" if self._is_parquet else random.choice((".csv", ".tsv", ".txt"))

    def write(self, path: Path, part: list[np.ndarray], labels: list[str]) -> Sequence[int]:
        """Write a file; return the order of the series in it."""
        length = max(one.shape[1] for one in part)
        names = [
            f"{'abc'[c] if self._channels > 1 else ''}{self._prefix}{t}"
            for c in range(self._channels)
            for t in range(length)
        ]
        columns = [self._label, *self._others]
        columns = [*names, *columns] if self._order == "last" else [*columns, *names]
        # Channels are in the order of the training file's columns.
        if self._order == "shuffled" and (self._channels == 1 or path.stem.endswith("TEST")):
            self._random.shuffle(columns)
        rows = []
        for number, (one, label) in enumerate(zip(part, labels, strict=True)):
            cells = dict(zip(names, self._cells(one, length), strict=False))
            cells |= {self._label: label, "id": f"s{number}", "": str(number), "group": "7"}
            cells |= {"date": f"2024-01-{number + 1:02}"}
            rows.append([cells[name] for name in columns if name in cells])
        if self._is_parquet:
            _write_parquet(path, columns, rows, names)
        else:
            head = [columns] if self._has_header else []
            _write_csv(path, [*head, *rows], self._separator)
        return range(len(part))

    def _cells(self, one: np.ndarray, length: int) -> list[str]:
        width = one.shape[1] if self.may_be_short else length
        cells = [_number(v, self._random) for row in _padded(one, width).tolist() for v in row]
        return cells if self._is_parquet else [c.replace(".", self._decimal) for c in cells]


class _LongTable:
    """A time step a row, the rows in any order."""

    def __init__(self, random: Random, channels: int, *, is_parquet: bool) -> None:
        self._random = random
        self._channels = ["x", "acc y", "z1"][:channels]
        self._is_parquet = is_parquet
        self._label = random.choice(_LABEL_NAMES)
        self._time = random.choice(_TIME_NAMES)
        self._kind = random.choice(("number", "duration", "clock", "iso"))
        self._separator = random.choice((",", ";", "\t"))
        self._columns = ["id", self._time, self._label, *self._channels]
        self.suffix = ".parquet" if is_parquet else ".csv"

    def write(self, path: Path, part: list[np.ndarray], labels: list[str]) -> Sequence[int]:
        """Write a file; return the order of the series in it."""
        rows = []
        if path.stem.endswith("TEST"):  # channels are in the order of the training file's columns
            self._random.shuffle(self._columns)
        for number, (one, label) in enumerate(zip(part, labels, strict=True)):
            for step, values in enumerate(one.T.tolist()):
                cells = {"id": f"s{number}", self._time: self._at(step), self._label: label}
                cells |= dict(zip(self._channels, map(_number, values), strict=True))
                rows.append([cells[name] for name in self._columns])
        self._random.shuffle(rows)
        if self._is_parquet:
            _write_parquet(path, self._columns, rows, self._channels)
        else:
            _write_csv(path, [self._columns, *rows], self._separator)
        at = self._columns.index("id")
        return [int(name[1:]) for name in dict.fromkeys(row[at] for row in rows)]

    def _at(self, step: int) -> str:
        seconds = 5 * step + 9 * 3600 + 59 * 60
        moment = datetime.datetime(2024, 3, 5) + datetime.timedelta(seconds=seconds)
        return {
            "number": str(step * 5),
            "duration": f"{step * 5}s",
            "clock": f"{moment.hour}:{moment:%M:%S}",
            "iso": moment.isoformat(sep=" "),
        }[self._kind]


def _write_csv(path: Path, rows: list[list[str]], separator: str) -> None:
    text = io.StringIO()
    csv.writer(text, delimiter=separator, lineterminator="\n").writerows(rows)
    path.write_text(text.getvalue(), encoding="utf-8")


def _write_parquet(
    path: Path, columns: list[str], rows: list[list[str]], numbers: list[str]
) -> None:
    import pyarrow
    from pyarrow import parquet

    cells = list(zip(*rows, strict=True))
    table = {
        name: pyarrow.array([None if c in _MISSING else float(c) for c in column], "float64")
        if name in numbers
        else pyarrow.array(column)
        for name, column in zip(columns, cells, strict=True)
    }
    parquet.write_table(pyarrow.table(table), path)


def _series(random: Random, channels: int, length: int, is_ragged: bool) -> np.ndarray:
    steps = length + random.randint(0, 4) if is_ragged else length
    values = [[random.gauss(0, 1) for _ in range(steps)] for _ in range(channels)]
    return np.array(values, dtype=np.float64).round(4).astype(np.float32)


def _punctured(random: Random, one: np.ndarray, gaps: str) -> np.ndarray:
    """Return the series with NaN at its ends, or within."""
    one = one.copy()
    if gaps == "ends":
        start, stop = random.randint(0, 1), one.shape[1] - random.randint(0, 2)
        one[:, :start] = one[:, stop:] = np.nan
    elif gaps == "inner" and random.random() < 0.7:
        one[random.randrange(len(one)), random.randint(1, one.shape[1] - 2)] = np.nan
    return one


def _padded(one: np.ndarray, width: int) -> np.ndarray:
    return np.pad(one, ((0, 0), (0, width - one.shape[1])), constant_values=np.nan)


def _trimmed(one: np.ndarray) -> np.ndarray:
    """Cut steps without any value off both ends, one by one."""
    while np.isnan(one[:, 0]).all():
        one = one[:, 1:]
    while np.isnan(one[:, -1]).all():
        one = one[:, :-1]
    return one


def _is_padding(part: list[np.ndarray]) -> bool:
    """Whether NaN at the ends are padding, as docs/data.md has it."""
    if any(np.isnan(_trimmed(one)).any() for one in part):
        return False
    has_ends = any(np.isnan(one).any() for one in part)
    return has_ends or len({one.shape[1] for one in part}) > 1


def _number(value: float, random: Random | None = None) -> str:
    if np.isnan(value):
        return "NaN" if random is None else random.choice(_MISSING)
    return f"{value:.4f}"  # more digits than float32 repeats
