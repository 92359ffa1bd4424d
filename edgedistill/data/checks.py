"""Warnings about a data set: what makes a model or its verdict worth less than it seems.

Each says what was seen, and the next step. The thresholds stand here and in docs/data.md.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import numpy as np

from edgedistill.data.facts import SPLITS, DataFacts
from edgedistill.io.arrays import Ints

IMBALANCE: Final = 10  # series of the largest class for one of the smallest, in training
FEWEST_SERIES: Final = 5  # of a class in a split; a coin gets 4 of 4 right once in 16 times, not 20
SIGNIFICANCE: Final = 0.01  # p-value below which a difference is beyond chance
_FEWEST_EXPECTED = 5  # series in a cell for the chi-squared distribution to hold (Cochran 1954)
_TABLES = 1_999  # drawn where it does not hold
_LISTED = 5  # classes or channels that a warning names


def data_warnings(facts: DataFacts) -> tuple[str, ...]:
    """Return the warnings about a data set, the gravest first."""
    return (
        *_too_few(facts.series_per_class),
        *_imbalance(facts.series_per_class),
        *_prevalence(facts.series_per_class),
        *_gaps_of_a_class(facts),
        *_without_variation(facts),
    )


def homogeneity_p(table: Ints) -> float:
    """Compute the p-value of Pearson's chi-squared test that two rows have the same distribution.

    Where a cell expects fewer than 5, the statistic is compared with that of random tables with
    the same margins (Hope 1968), drawn from a fixed seed.

    Args:
        table: counts, (2, K).

    >>> round(homogeneity_p(np.array([[90, 10], [50, 50]])), 6), homogeneity_p(np.eye(2, dtype=int))
    (0.0, 1.0)
    """
    table = table[:, table.any(axis=0)]
    if table.shape[1] < 2 or not table.any(axis=1).all():
        return 1.0
    from scipy import special

    expected = np.outer(table.sum(axis=1), table.sum(axis=0)) / table.sum()
    statistic = ((table - expected) ** 2 / expected).sum()
    if expected.min() >= _FEWEST_EXPECTED:
        return float(special.chdtrc(table.shape[1] - 1, statistic))
    from scipy import stats  # takes a second, and most sets have enough series

    drawn = stats.random_table(table.sum(axis=1), table.sum(axis=0), seed=0).rvs(size=_TABLES)
    statistics = ((drawn - expected) ** 2 / expected).sum(axis=(1, 2))  # (_TABLES, 2, K) -> ...
    as_far = statistics >= statistic * (1 - 1e-12)
    return float((1 + as_far.sum()) / (1 + _TABLES))


def _too_few(counts: Mapping[str, Mapping[str, int]]) -> Iterator[str]:
    for split in SPLITS[1:]:
        absent = [repr(name) for name, row in counts.items() if row[split] == 0]
        few = [
            f"{n!r} ({row[split]})" for n, row in counts.items() if 0 < row[split] < FEWEST_SERIES
        ]
        if absent:
            yield (
                f"The {split} split has no series of {_list(absent)}: nothing measured there tells "
                f"how well such are recognized. {_more(split)}"
            )
        if few:
            yield (
                f"The {split} split has fewer than {FEWEST_SERIES} series of {_list(few)}: too few "
                "to tell how well such are recognized, since chance alone may get them right. "
                f"{_more(split)}"
            )


def _more(split: str) -> str:
    return f"Give more of them, or raise data.{split}_fraction where the split is drawn."


def _imbalance(counts: Mapping[str, Mapping[str, int]]) -> Iterator[str]:
    train = {name: row["train"] for name, row in counts.items()}
    most, least = max(train, key=train.__getitem__), min(train, key=train.__getitem__)
    ratio = train[most] / train[least]
    if ratio >= IMBALANCE:
        rest = 1 - train[least] / sum(train.values())
        yield (
            f"Classes are imbalanced, {ratio:.0f} to 1: training has {train[most]:,} series of "
            f"{most!r} and {train[least]:,} of {least!r}. A model that never predicts {least!r} "
            f"is right on {_percent(rest)} of them. Give more series of {least!r}, or fewer of the "
            "others with data.limit_per_class, and judge by AUC-PRC, not by accuracy."
        )


def _prevalence(counts: Mapping[str, Mapping[str, int]]) -> Iterator[str]:
    names = list(counts)
    fitted = [counts[name]["train"] + counts[name]["validation"] for name in names]
    table = np.array([fitted, [counts[name]["test"] for name in names]])
    p = homogeneity_p(table)
    if p < SIGNIFICANCE:
        shares = table / table.sum(axis=1, keepdims=True)
        at = int(np.abs(shares[0] - shares[1]).argmax())
        yield (
            f"Classes are distributed differently in training and test (chi-squared test, p = "
            f"{p:.2g}): {names[at]!r} is {_percent(shares[0, at])} of the training and validation "
            f"series, {_percent(shares[1, at])} of the test series. Check that both were recorded "
            "alike, and that the test series are those that the board will see."
        )


def _gaps_of_a_class(facts: DataFacts) -> Iterator[str]:
    names = list(facts.series_per_class)
    totals = np.array([sum(facts.series_per_class[name].values()) for name in names])
    gaps = np.array([facts.missing_series.get(name, 0) for name in names])
    p = homogeneity_p(np.array([gaps, totals - gaps]))
    if p < SIGNIFICANCE:
        shares = gaps / totals
        most, least = int(shares.argmax()), int(shares.argmin())
        yield (
            f"Values are missing in {_percent(shares[most])} of the series of {names[most]!r}, but "
            f"in {_percent(shares[least])} of those of {names[least]!r} (chi-squared test, p = "
            f"{p:.2g}): a model may recognize the gap, not the class. Check how values come to be "
            "missing."
        )


def _without_variation(facts: DataFacts) -> Iterator[str]:
    if facts.flat_series:
        yield (
            f"{_series(facts.flat_series)} constant in every channel once normalized: at most the "
            "level tells one from another. Keep it with data.normalization=train, or remove them."
        )
    if facts.flat_channels:
        channels = _list([str(channel) for channel in facts.flat_channels])
        yield (
            f"Constant in every training series once normalized: channel {channels} (counting "
            "from 0). At most its level is left to learn from: keep it with "
            "data.normalization=train, or remove the channel."
        )
    if facts.unresolved_series:
        yield (
            f"{_series(facts.unresolved_series)} too far from zero for float32 to resolve the "
            "variation: it becomes steps of rounding. Subtract the offset before the file is "
            "written."
        )


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _series(count: int) -> str:
    return "1 series is" if count == 1 else f"{count:,} series are"


def _list(names: Sequence[str]) -> str:
    """Join names, the first few of many."""
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return ", ".join(names[:_LISTED]) + more
