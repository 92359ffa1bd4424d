"""Facts of a prepared data set: what was read, what is missing, what no model could tell apart.

They are counted on the series as recorded, and on the arrays that models take. `checks` decides
which of them are worth a warning.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgedistill.data.series import RawSeries, Source
from edgedistill.formats.schema import ColumnRole, TestOrigin
from edgedistill.io.arrays import Bools, Floats

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True, slots=True, kw_only=True)
class DataFacts:
    """Facts of the series of all splits; counts are series."""

    series_per_class: dict[str, dict[str, int]]  # class to split to count, in the order of logits
    shortest: int  # time steps, as recorded
    longest: int  # time steps, as recorded
    missing_share: float  # of the recorded values, 0 to 1
    missing_series: dict[str, int]  # class to series with missing values; without zeros
    flat_series: int  # constant in every channel once normalized
    flat_channels: tuple[int, ...]  # from 0; constant in every training series once normalized
    unresolved_series: int  # with a channel whose variation is lost in float32 at its offset
    test_origin: TestOrigin
    test_file: str | None  # name of the file or folder; None: drawn
    columns: tuple[ColumnRole, ...]  # of a table, and what each was taken for
    remarks: tuple[str, ...]  # of the readers, such as labels that are one class


def describe(
    source: Source, parts: Sequence[RawSeries], arrays: Sequence[Floats], class_names: Sequence[str]
) -> DataFacts:
    """Compute the facts of a data set.

    Args:
        source: the data set as it was read.
        parts: training, validation and test series as recorded.
        arrays: the same after preprocessing, (N, C, T) each.
        class_names: K, in the order of the logits.
    """
    series = [one for part in parts for one in part.series]
    labels = [label for part in parts for label in part.labels]
    missing = [int(np.isnan(one).sum()) for one in series]
    gaps = Counter(label for label, count in zip(labels, missing, strict=True) if count)
    lengths = [one.shape[1] for one in series]
    flat = [_flat_channels(x) for x in arrays]  # (N, C) of each split
    return DataFacts(
        series_per_class=_series_per_class(parts, class_names),
        shortest=min(lengths),
        longest=max(lengths),
        missing_share=sum(missing) / sum(one.size for one in series),
        missing_series={name: gaps[name] for name in class_names if name in gaps},
        flat_series=sum(int(rows.all(axis=1).sum()) for rows in flat),
        flat_channels=tuple(np.flatnonzero(flat[0].all(axis=0)).tolist()),
        unresolved_series=sum(sum(part.unresolved) for part in parts),
        test_origin=_test_origin(source),
        test_file=None if source.test is None else Path(source.test.origin).name,
        columns=parts[0].columns,
        remarks=tuple(dict.fromkeys(remark for part in parts for remark in part.remarks)),
    )


def _test_origin(source: Source) -> TestOrigin:
    if source.test is None:
        return "drawn"
    return "named" if source.is_test_named else "found"


def _series_per_class(
    parts: Sequence[RawSeries], class_names: Sequence[str]
) -> dict[str, dict[str, int]]:
    counts = {split: Counter(part.labels) for split, part in zip(SPLITS, parts, strict=True)}
    return {name: {split: counts[split][name] for split in SPLITS} for name in class_names}


def _flat_channels(x: Floats) -> Bools:
    """Which channels of which series are constant, (N, C, T) -> (N, C)."""
    flat: Bools = x.max(axis=2) == x.min(axis=2)
    return flat
