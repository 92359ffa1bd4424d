"""Drift tests of a profile: inputs, predictions and saliency against the reference.

Three aspects, each with several tests. Drift is a difference that chance alone would show in few
reports (`false_alarms`, for all tests of an aspect together) and that is large enough to matter.
What chance would show is drawn from the reference itself: its series are resampled to the size of
the profile, as a whole, so that tests of the same series stay as dependent as they are.

Sources: Efron and Tibshirani 1993 (bootstrap); Westfall and Young 1993 (largest studentized
statistic of a family); Endres and Schindelin 2003 (Jensen-Shannon distance).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np

from edgedistill.bundle.drift_reference import FEATURES, DriftLimits, Reference
from edgedistill.device.drift.bootstrap import (
    ResampleCounts,
    distances,
    draw_resamples,
    one_hot,
    resampled_distances,
    resampled_means,
)
from edgedistill.device.drift.profile import (
    BINS,
    Profile,
    closeness_within,
    confidence,
    correlations,
    digitize,
)
from edgedistill.io.arrays import Doubles, Ints

DriftAspect = Literal["inputs", "predictions", "reasons"]
DRIFT_ASPECTS: Final[tuple[DriftAspect, ...]] = ("inputs", "predictions", "reasons")
_TINY: Final = 1e-9  # a statistic that chance does not move has no spread to be measured by


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftTest:
    """One difference from the reference."""

    __test__ = False  # no test of pytest's

    question: DriftAspect
    what: str
    distance: float  # Jensen-Shannon; of mean maps the root of 1 - Pearson
    limit: float  # above it: drift
    detail: str

    @property
    def drifted(self) -> bool:
        """Whether the distance is drift."""
        return self.distance > self.limit


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftReport:
    """All tests of one profile."""

    series: int  # in the profile
    explained: int  # of them, with a map
    reference: int  # series in the reference
    tests: tuple[DriftTest, ...]
    unjudged: tuple[str, ...]  # tests with too few series, and how many are needed

    def drifted_in(self, aspect: DriftAspect) -> bool | None:
        """Return whether an aspect drifted; None if no test of it was possible."""
        found = [test.drifted for test in self.tests if test.question == aspect]
        return any(found) if found else None

    @property
    def drifted(self) -> bool:
        """Whether any test drifted."""
        return any(test.drifted for test in self.tests)

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON-able values."""
        return {
            "drifted": {question: self.drifted_in(question) for question in DRIFT_ASPECTS},
            "series": self.series,
            "explained": self.explained,
            "reference": self.reference,
            "tests": [
                {
                    **{name: getattr(test, name) for name in DriftTest.__slots__},
                    "drifted": test.drifted,
                }
                for test in self.tests
            ],
            "unjudged": list(self.unjudged),
        }


def compare(
    profile: Profile, reference: Reference, limits: DriftLimits, class_names: Sequence[str]
) -> DriftReport:
    """Compare a profile with the reference of its bundle; equal input gives equal output.

    Args:
        profile: profile with the bins of `reference`.
        reference: reference of the bundle.
        limits: limits of the bundle.
        class_names: names of the classes, in the order of the logits, (K,).
    """
    rng = np.random.default_rng(0)
    expected = np.bincount(reference.logits.argmax(axis=1), minlength=len(class_names))
    judged = np.flatnonzero(np.minimum(profile.explained, expected) >= limits.min_maps)
    tests: list[DriftTest] = []
    if profile.series >= limits.min_series:
        drawn = draw_resamples(rng, len(reference.logits), profile.series)
        tests += _inputs(profile, reference, limits, drawn)
        tests += _predictions(profile, reference, limits, drawn, class_names)
    if len(judged):
        named = [(int(index), class_names[index]) for index in judged]
        tests += _reasons(profile, reference, limits, rng, named)
    return DriftReport(
        series=profile.series,
        explained=int(profile.explained.sum()),
        reference=len(reference.logits),
        tests=tuple(tests),
        unjudged=tuple(_unjudged(profile, expected, limits, class_names)),
    )


def _unjudged(
    profile: Profile, reference_counts: Ints, limits: DriftLimits, class_names: Sequence[str]
) -> Iterator[str]:
    """Yield the tests without enough series; a class without any series needs none."""
    if profile.series < limits.min_series:
        yield f"inputs and predictions: {profile.series} series, {limits.min_series} are needed"
    for name, seen, there, maps in zip(
        class_names, profile.classes, reference_counts, profile.explained, strict=True
    ):
        if (seen or there) and min(maps, there) < limits.min_maps:
            yield (
                f"reasons for {name}: {maps} maps, and {there} in the reference; "
                f"{limits.min_maps} of each are needed"
            )


def _inputs(
    profile: Profile, reference: Reference, limits: DriftLimits, resamples: ResampleCounts
) -> Iterator[DriftTest]:
    rows = reference.features.reshape(len(reference.features), -1).astype(float)
    marked = one_hot(digitize(profile.bins.inputs, rows), BINS)  # (M, C * F, BINS)
    channels = reference.features.shape[1]
    names = [
        feature if channels == 1 else f"{feature}, channel {channel}"
        for channel in range(channels)
        for feature in FEATURES
    ]
    yield from _tests_of(
        "inputs",
        names,
        distances(profile.inputs, marked.sum(axis=0)),
        resampled_distances(marked, resamples),
        limits,
        np.full(len(names), limits.min_distance),
        [_tails(counts) for counts in profile.inputs],
    )


def _predictions(
    profile: Profile,
    reference: Reference,
    limits: DriftLimits,
    resamples: ResampleCounts,
    class_names: Sequence[str],
) -> Iterator[DriftTest]:
    predicted = reference.logits.argmax(axis=1)
    classes = one_hot(predicted[:, None], len(class_names))
    sure = digitize(profile.bins.confidence, confidence(reference.logits)[:, None])
    certain = one_hot(sure, BINS)
    yield from _tests_of(
        "predictions",
        ["class rates", "confidence"],
        np.concatenate(
            [
                distances(profile.classes[None], classes.sum(axis=0)),
                distances(profile.confidence, certain.sum(axis=0)),
            ]
        ),
        np.concatenate(
            [resampled_distances(classes, resamples), resampled_distances(certain, resamples)],
            axis=1,
        ),
        limits,
        np.full(2, limits.min_distance),
        [
            _rates(profile.classes, classes.sum(axis=0)[0], class_names),
            _tails(profile.confidence[0]),
        ],
    )


def _reasons(
    profile: Profile,
    reference: Reference,
    limits: DriftLimits,
    rng: np.random.Generator,
    classes: Sequence[tuple[int, str]],
) -> Iterator[DriftTest]:
    """Yield two tests a class: its mean map, and how close single maps are to it."""
    predicted = reference.logits.argmax(axis=1)
    names, seen, null, details = [], [], [], []
    for index, name in classes:
        maps = reference.signed[predicted == index].astype(float)
        drawn = draw_resamples(rng, len(maps), int(profile.explained[index]))
        alike = correlations(profile.map_sums[index] / profile.explained[index], maps.mean(axis=0))
        marked = one_hot(
            digitize(profile.bins.closeness[index : index + 1], closeness_within(maps)[:, None]),
            BINS,
        )
        names += [f"mean map of {name}", f"single maps of {name}"]
        seen += [_apart(alike), distances(profile.closeness[index], marked.sum(axis=0)[0])]
        null.append(_apart(correlations(*resampled_means(maps, drawn))))
        null.append(resampled_distances(marked, drawn)[:, 0])
        spread = _spread(profile, index, maps)
        details.append(f"Pearson {float(alike):.3f}, spread {spread:.2f}×")
        details.append(_tails(profile.closeness[index]))
    least = float(_apart(np.array(limits.max_map_pearson)))
    floors = np.tile([least, limits.min_distance], len(classes))
    yield from _tests_of(
        "reasons", names, np.array(seen), np.stack(null, axis=1), limits, floors, details
    )


def _tests_of(
    aspect: DriftAspect,
    names: Sequence[str],
    observed: Doubles,
    null: Doubles,
    limits: DriftLimits,
    floors: Doubles,
    details: Sequence[str],
) -> Iterator[DriftTest]:
    """Yield the tests of an aspect.

    Args:
        aspect: the family that `limits.false_alarms` is shared by.
        names: names of the tests, (V,).
        observed: observed distances, (V,).
        null: distances of the resamples, (R, V).
        limits: limits, with the share of false alarms.
        floors: distances below which a difference does not matter, (V,).
        details: descriptions of the tests, (V,).
    """
    center, scale = null.mean(axis=0), np.maximum(null.std(axis=0), _TINY)
    largest = ((null - center) / scale).max(axis=1)
    bounds = np.maximum(floors, center + np.quantile(largest, 1 - limits.false_alarms) * scale)
    for name, distance, limit, detail in zip(names, observed, bounds, details, strict=True):
        yield DriftTest(
            question=aspect,
            what=name,
            distance=float(distance),
            limit=float(limit),
            detail=detail,
        )


def _apart(pearson: Doubles) -> Doubles:
    """Return a distance of maps that correlate so: like that of histograms, it is a root."""
    found: Doubles = np.sqrt(np.maximum(1 - pearson, 0))
    return found


def _tails(counts: Ints) -> str:
    """Return the shares of the outer bins, of which each has a tenth in the reference."""
    share = counts / max(1, counts.sum())
    return f"{share[0]:.0%} low, {share[-1]:.0%} high"


def _rates(counts: Ints, reference_counts: Doubles, names: Sequence[str]) -> str:
    """Return the class whose rate changed most, as text."""
    now, before = counts / max(1, counts.sum()), reference_counts / reference_counts.sum()
    index = int(np.abs(now - before).argmax())
    return f"{names[index]}: {now[index]:.0%}, was {before[index]:.0%}"


def _spread(profile: Profile, index: int, maps: Doubles) -> float:
    """Return the spread of single maps over that in the reference."""
    count = profile.explained[index]
    mean = profile.map_sums[index] / count
    variance = np.maximum(profile.map_squares[index] / count - mean**2, 0).mean()
    return float(np.sqrt(variance / max(maps.var(axis=0).mean(), _TINY)))
