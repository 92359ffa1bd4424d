"""Bootstrap resamples of histograms: the differences that chance alone shows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from edgedistill.io.arrays import Doubles, Ints

RESAMPLES: Final = 1000


@dataclass(frozen=True, slots=True)
class ResampleCounts:
    """Counts of each of M series in resamples of the reference and of the profile."""

    reference: Doubles  # (R, M)
    profile: Doubles  # (R, M)


def draw_resamples(rng: np.random.Generator, rows: int, series: int) -> ResampleCounts:
    """Return resamples of M rows: as many series as there are rows, and as a profile has."""
    share = np.full(rows, 1 / rows)
    first, second = (
        rng.multinomial(count, share, size=RESAMPLES).astype(float) for count in (rows, series)
    )
    return ResampleCounts(first, second)


def distances(first: Ints | Doubles, second: Ints | Doubles) -> Doubles:
    """Return the Jensen-Shannon distances of histograms, (..., B) -> (...), 0 to 1."""
    p = first / np.maximum(first.sum(axis=-1, keepdims=True), 1)
    q = second / np.maximum(second.sum(axis=-1, keepdims=True), 1)
    middle = np.maximum((p + q) / 2, np.finfo(float).tiny)
    terms = (part * np.log2(np.where(part > 0, part / middle, 1)) for part in (p, q))
    divergence = sum(term.sum(axis=-1) for term in terms) / 2
    found: Doubles = np.sqrt(np.clip(divergence, 0, 1))  # rounding may pass either end
    return found


def resampled_distances(marked: Doubles, counts: ResampleCounts) -> Doubles:
    """Return the distances of resampled histograms, (R, V)."""
    rows = marked.reshape(len(marked), -1)
    shape = (RESAMPLES, *marked.shape[1:])
    return distances(
        (counts.profile @ rows).reshape(shape), (counts.reference @ rows).reshape(shape)
    )


def resampled_means(maps: Doubles, counts: ResampleCounts) -> tuple[Doubles, Doubles]:
    """Return mean maps of resamples of the reference and of the profile, (R, W) each.

    The mean of few maps holds noise that another mean would not share, and resamples would. So what
    they share is shrunk to the size that the true mean has in expectation (James and Stein 1961).

    Args:
        maps: maps of the reference, (M, W), M above 1.
        counts: counts of each series in the resamples.
    """
    count = len(maps)
    level = maps - maps.mean(axis=1, keepdims=True)  # what a correlation looks at
    mean = level.mean(axis=0)
    apart = (level - mean) * np.sqrt(count / (count - 1))
    noise = (apart**2).sum() / count**2  # expected square of the mean's error
    size = (mean**2).sum()
    common = mean * np.sqrt(max(0.0, 1 - noise / size)) if size > 0 else mean
    first, second = (
        common + rows @ apart / rows.sum(axis=1, keepdims=True)
        for rows in (counts.reference, counts.profile)
    )
    return first, second


def one_hot(bins: np.ndarray[Any, np.dtype[np.intp]], count: int) -> Doubles:
    """Return 1 in the bin of each value, (M, V) -> (M, V, count)."""
    found: Doubles = (bins[..., None] == np.arange(count)).astype(float)
    return found
