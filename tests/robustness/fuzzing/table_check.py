"""One case through the reader of training and that of `predict`."""

from __future__ import annotations

import io
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from edgedistill.data import RawSeries, Source, load
from edgedistill.data.sources import ReadOptions
from edgedistill.device.predict.inputs import Item
from edgedistill.device.predict.readers import series_items
from edgedistill.errors import EdgeDistillError
from edgedistill.formats.schema import InputSchema
from fuzzing.table_cases import Case
from fuzzing.table_variants import Variant

READ, REFUSED = "read", "refused"


class Finding(Exception):
    """What a reader did that it must not."""


def check(case: Case) -> str:
    """Read a case everywhere; return whether it was read or refused.

    Raises:
        Finding: what came out is not what was written, or an error is no refusal.
    """
    try:
        source = load(str(case.train), str(case.test), options=ReadOptions(roles=case.roles))
    except EdgeDistillError as error:
        _check_refusal(str(error), case)
        return REFUSED
    if case.expected == REFUSED:
        raise Finding(f"was read, though it cannot be told: {_shown(source)}")
    assert source.test is not None
    for name, raw, series, labels in (
        ("training", source.train, case.series[0], case.labels[0]),
        ("test", source.test, case.series[1], case.labels[1]),
    ):
        if raw.labels != labels:
            raise Finding(f"{name} has the labels {raw.labels}, not {labels}")
        _check_equal(raw.series, series, name, case)
    _check_predict(case, source.train)
    return READ


def _check_refusal(message: str, case: Case) -> None:
    if case.expected == READ:
        raise Finding(f"was refused: {message}")
    if not re.search(r"_(TRAIN|TEST)\.", message):
        raise Finding(f"was refused without its place: {message}")
    if not re.search(r"[.?)] ?[A-Z`'\"].*\.", message, re.DOTALL):
        raise Finding(f"was refused without a next step: {message}")


def _check_predict(case: Case, train: RawSeries) -> None:
    """Give both files to `predict`: as files and through pipes, on the workstation and a board."""
    for name, path, series in (
        ("training", case.train, case.series[0]),
        ("test", case.test, case.series[1]),
    ):
        _check_equal(predicted(path, train), series, f"predict, {name}", case)
    _check_equal(predicted(case.test, train, piped=True), case.series[1], "predict, pipe", case)
    for variant in case.variants:
        _check_variant(variant, train, case)
    with board():
        try:
            items = predicted(case.test, train)
        except (EdgeDistillError, Finding):
            if case.board_reads:
                raise
            return
    if not case.board_reads:
        raise Finding("a board read what it has no library for")
    _check_equal(items, case.series[1], "predict on a board", case)


def _check_variant(variant: Variant, train: RawSeries, case: Case) -> None:
    """Give the test series to `predict` in another file; what it may refuse it must not change."""
    items = _items(variant.path, train, piped=False)
    errors = [item.error for item in items if item.error is not None]
    if errors and variant.is_sure and case.expected == READ:
        raise Finding(f"predict refused {variant.name}: {errors[0]}")
    if len(items) != len(case.series[1]):
        if errors and items[-1].error is not None:  # the file as a whole
            return
        raise Finding(f"predict sees {len(items)} series of {variant.name}")
    pairs = [
        (np.asarray(item.series), one)
        for item, one in zip(items, case.series[1], strict=True)
        if item.error is None
    ]
    _check_equal([one for one, _ in pairs], [one for _, one in pairs], variant.name, case)


def predicted(path: Path, train: RawSeries, *, piped: bool = False) -> list[np.ndarray]:
    """Return the series that `predict` makes of a file, by the schema that a bundle carries.

    Raises:
        Finding: an item has no series.
    """
    items = _items(path, train, piped=piped)
    errors = [item.error for item in items if item.error is not None]
    if errors:
        raise Finding(f"predict refused {len(errors)} of {len(items)} series: {errors[0]}")
    return [np.asarray(item.series) for item in items]


def _items(path: Path, train: RawSeries, *, piped: bool) -> list[Item]:
    """Return what `predict` makes of a file; of one that is refused, an item with the error."""
    assert train.schema is not None
    schema = InputSchema.from_dict(train.schema.to_dict())
    data = path.read_bytes()
    stream = io.BufferedReader(_Pipe(data) if piped else io.BytesIO(data))  # type: ignore[type-var]
    items: list[Item] = []
    try:
        items += series_items(stream, train.channels, schema, sorted(set(train.labels)))
    except EdgeDistillError as error:
        items.append(Item(place={}, error=f"the whole file: {error}"))
    return items


def _check_equal(
    actual: Sequence[np.ndarray], expected: Sequence[np.ndarray], name: str, case: Case
) -> None:
    if len(actual) != len(expected):
        raise Finding(f"{name} has {len(actual)} series, not {len(expected)}")
    for number, (one, other) in enumerate(zip(actual, expected, strict=True)):
        if one.shape != other.shape:
            raise Finding(f"series {number} of {name} has shape {one.shape}, not {other.shape}")
        is_same = (
            np.array_equal(one, other, equal_nan=True)
            if case.is_exact
            else np.allclose(
                one, other, rtol=1e-5, atol=1e-6 * np.nanmax(abs(other)), equal_nan=True
            )
        )
        if not is_same:
            raise Finding(f"series {number} of {name} is {one.tolist()}, not {other.tolist()}")


def _shown(source: Source) -> str:
    return f"{[one.shape for one in source.train.series[:3]]} {source.train.labels[:5]}"


@contextmanager
def board() -> Iterator[None]:
    """What a board lacks cannot be imported."""
    absent = ("dateutil", "dateutil.parser", "pyarrow", "pyarrow.parquet")
    before = {name: sys.modules.get(name) for name in absent}
    sys.modules.update(dict.fromkeys(absent))  # type: ignore[arg-type]
    try:
        yield
    finally:
        for name, module in before.items():
            if module is None:
                sys.modules.pop(name, None)
            else:
                sys.modules[name] = module


class _Pipe(io.RawIOBase):
    """Bytes that cannot be sought, some at a time."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return False

    def readinto(self, buffer: bytearray) -> int:  # type: ignore[override]
        piece = self._data[: min(len(buffer), 700)]
        self._data = self._data[len(piece) :]
        buffer[: len(piece)] = piece
        return len(piece)
