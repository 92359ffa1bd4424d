"""Labeled series as they were read, checked when they are built."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from edgedistill.errors import DataError, ShapeError
from edgedistill.formats.cells import is_number, to_number
from edgedistill.formats.schema import ColumnRole, InputSchema
from edgedistill.io.arrays import AnyFloats, Floats
from edgedistill.preprocessing.transforms import check_series

_FEWEST_LEVELS = 32  # of float32 in a channel's range; with fewer, rounding exceeds 1 % of it


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RawSeries:
    """Series of any length with their labels, in the order of the file.

    Raises:
        ShapeError: labels and series differ in number, or series in channels.
        DataError: no series, or a series without values; see `check_series`.
    """

    series: list[Floats]  # each (C, T_i), NaN is a missing value
    labels: list[str]
    origin: str  # file or data set, for messages
    sample_rate_hz: int | None = None  # of sounds
    columns: tuple[ColumnRole, ...] = ()  # what each column of a table was taken for
    remarks: tuple[str, ...] = ()  # sentences for the user, such as labels that were merged
    schema: InputSchema | None = None  # how files like this one are read; None of sounds
    unresolved: tuple[bool, ...] = ()  # of each series, see `is_unresolved`; (): not known

    def __post_init__(self) -> None:
        if len(self.series) != len(self.labels):
            raise ShapeError(
                f"{self.origin} has {len(self.series)} series but {len(self.labels)} labels. "
                "Give one label a series."
            )
        check_series(self.series, self.origin)

    @property
    def channels(self) -> int:
        """C, the same for every series."""
        return int(self.series[0].shape[0])

    def take(self, indices: Sequence[int]) -> RawSeries:
        """Return the series at these indices, in this order."""
        return replace(
            self,
            series=[self.series[i] for i in indices],
            labels=[self.labels[i] for i in indices],
            unresolved=tuple(self.unresolved[i] for i in indices) if self.unresolved else (),
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Source:
    """A data set: training series, and test series where the set brings its own.

    Raises:
        DataError: a single class, or labels in test that train lacks.
        ShapeError: train and test differ in channels or sample rate.
    """

    name: str
    train: RawSeries
    test: RawSeries | None
    is_test_named: bool = (
        False  # by the user; else the test file was found beside the training file
    )

    def __post_init__(self) -> None:
        labels = set(self.train.labels)
        _check_spelling(labels, self.train.origin)
        if len(labels) < 2:
            raise DataError(
                f"{self.train.origin} has one class only, {labels.pop()!r}. "
                "A classifier needs series of at least two."
            )
        if self.test is not None:
            self._check_test(self.test, labels)

    def _check_test(self, test: RawSeries, train_labels: set[str]) -> None:
        new = set(test.labels) - train_labels
        if new:
            raise DataError(
                f"{test.origin} has the labels {', '.join(map(repr, sorted(new)))}, which "
                f"{self.train.origin} lacks (it has {', '.join(map(repr, sorted(train_labels)))}). "
                "Check that the two files belong together."
            )
        for name, train, test_value in (
            ("channels", self.train.channels, test.channels),
            ("sample_rate_hz", self.train.sample_rate_hz, test.sample_rate_hz),
        ):
            if train != test_value:
                raise ShapeError(
                    f"{name} is {train} in {self.train.origin}, but {test_value} in {test.origin}. "
                    "Check that the two belong together."
                )


def _check_spelling(labels: set[str], origin: str) -> None:
    """Refuse labels that are equal as numbers, such as 7 and 007."""
    numbers: dict[float, str] = {}
    for label in sorted(labels):
        if not is_number(label):
            continue
        other = numbers.setdefault(to_number(label), label)
        if other != label:
            raise DataError(
                f"{origin} has the labels {other!r} and {label!r}, which are equal as numbers. If "
                "they are one class, spell them alike; if not, name them by words."
            )


def is_unresolved(one: AnyFloats) -> bool:
    """Whether float32 has too few levels between the least and the greatest value of a channel.

    Args:
        one: series (C, T) as precise as its file; NaN is a missing value.

    >>> wave = np.sin(np.arange(50))[None]
    >>> [is_unresolved(wave + offset) for offset in (0, 1e4, 1e7, 1e12)]
    [False, False, True, True]
    """
    if not one.size:  # refused later, by its place
        return False
    low, high = np.fmin.reduce(one, axis=1), np.fmax.reduce(one, axis=1)
    with np.errstate(invalid="ignore", over="ignore"):  # infinity is refused later, by its place
        levels = (high - low) / np.spacing(np.maximum(np.abs(low), np.abs(high)), dtype=np.float32)
    return bool(((high > low) & (levels < _FEWEST_LEVELS)).any())


def spread_per_class(labels: Sequence[str], limit: int) -> list[int]:
    """Choose at most `limit` series of each class, evenly spread over the file; return indices.

    Not the first ones: folders are sorted by name, so the first ones are often one speaker's.

    >>> spread_per_class(["a", "a", "a", "a", "b"], 2)
    [0, 3, 4]
    """
    members: dict[str, list[int]] = {}
    for index, label in enumerate(labels):
        members.setdefault(label, []).append(index)
    chosen: list[int] = []
    for indices in members.values():
        count = min(limit, len(indices))
        chosen += [indices[round(at)] for at in np.linspace(0, len(indices) - 1, count)]
    return sorted(chosen)
