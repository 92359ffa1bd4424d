"""Drift reference: inputs, logits and saliency of a bundle's model where it was made.

A row for each series of the test split: features of the model's input, its logits, and its map.
NumPy only, because the board uses it.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, ClassVar, Final

import numpy as np

from edgedistill.errors import ConfigError, DataError, IntegrityError, ShapeError
from edgedistill.io.arrays import Floats
from edgedistill.io.npz import read_npz
from edgedistill.saliency.classifier import Classifier
from edgedistill.saliency.perturbation import PerturbationPlan

FEATURES: Final = ("mean", "spread", "peak", "roughness")  # of each channel of a series
FEWEST_SERIES: Final = 20  # fewer do not show the usual spread
MOST_SERIES: Final = 500  # more cost room in the bundle and time on the board


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftLimits:
    """When a difference from the reference is drift: unlikely by chance, and large enough."""

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}  # for the recipe

    false_alarms: float = 0.01  # share of reports without drift, for each of the three questions
    min_distance: float = 0.1  # Jensen-Shannon, 0 to 1, between histograms
    max_map_pearson: float = 0.95  # of mean maps; what correlates more is alike
    min_series: int = 50  # fewer are not judged
    min_maps: int = 20  # of a class; fewer are not judged

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            number = isinstance(value, (int, float)) and not isinstance(value, bool)
            if not number or not abs(value) <= sys.float_info.max:  # nor is a whole number beyond
                raise ConfigError(f"drift.{name} is {value!r}; give a number.")
        if not 0.001 <= self.false_alarms < 1 or not 0 <= self.min_distance <= 1:
            raise ConfigError(
                f"drift.false_alarms is {self.false_alarms} and drift.min_distance "
                f"{self.min_distance}; give a share from 0.001 on, and a distance between 0 and 1."
            )
        if self.min_series < 1 or self.min_maps < 1:
            raise ConfigError(
                f"drift.min_series is {self.min_series} and drift.min_maps {self.min_maps}; give "
                "whole numbers from 1 on."
            )

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> DriftLimits:
        """Return the limits that `dataclasses.asdict` wrote.

        Raises:
            ConfigError: a limit is unknown, or no number that makes sense.
        """
        unknown = set(values) - {field.name for field in fields(cls)}
        if unknown:
            raise ConfigError(
                f"Drift has no limit {', '.join(sorted(unknown))}. It knows "
                f"{', '.join(field.name for field in fields(cls))}."
            )
        return cls(**values)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """A row for each of M series."""

    features: Floats  # (M, C, F) of the model's input, in the order of FEATURES
    logits: Floats  # (M, K)
    signed: Floats  # (M, W), support of each window for the predicted class, in logits

    def check(self, plan: PerturbationPlan, channels: int, classes: int) -> None:
        """Refuse arrays that do not fit each other, the plan, the channels or the classes.

        Raises:
            ShapeError: which array is wrong, and how.
        """
        count = len(self.logits)
        shapes = {
            "features": (count, channels, len(FEATURES)),
            "logits": (count, classes),
            "signed": (count, len(plan.starts)),
        }
        for name, shape in shapes.items():
            array = getattr(self, name)
            if array.shape != shape or count < FEWEST_SERIES or not np.isfinite(array).all():
                raise ShapeError(
                    f"{name} of the reference has shape {array.shape}; it must be {shape} and "
                    f"finite, for {FEWEST_SERIES} series at least."
                )


def make_reference(
    classifier: Classifier, series: Floats, plan: PerturbationPlan, *, seed: int
) -> Reference | None:
    """Return the reference of a classifier on held-out series; None if they are few.

    Every map explains the classifier's own class, as it does while it runs; an evaluation
    explains the teacher's.

    Args:
        classifier: the model of the bundle.
        series: held-out series, (N, C, T).
        plan: plan of the maps.
        seed: seed of the draw, where the series are many.
    """
    from edgedistill.saliency.occlusion import explain_classifier  # reading needs no kernels

    if len(series) < FEWEST_SERIES:
        return None
    count = min(len(series), MOST_SERIES)
    rows = np.sort(np.random.default_rng(seed).permutation(len(series))[:count])
    explanation = explain_classifier(classifier, series[rows], plan)
    return Reference(
        features=features(series[rows]), logits=explanation.logits, signed=explanation.signed
    )


def features(series: Floats) -> Floats:
    """Return the drift features of the model's input.

    Args:
        series: (N, C, T).

    Returns:
        (N, C, F) float32: mean, standard deviation, largest distance from zero, and mean
        step from one time to the next.
    """
    wide = series.astype(np.float64)
    steps = np.abs(np.diff(wide, axis=2))
    parts = (
        wide.mean(axis=2),
        wide.std(axis=2),
        np.abs(wide).max(axis=2),
        steps.mean(axis=2) if steps.shape[2] else np.zeros(wide.shape[:2]),
    )
    return np.stack(parts, axis=2).astype(np.float32)


def save_reference(reference: Reference, path: Path) -> None:
    """Write the arrays as NPZ; equal arrays give equal bytes."""
    with path.open("wb") as stream:
        np.savez(stream, **asdict(reference))  # NumPy 1 would store allow_pickle as an array


def load_reference(path: Path) -> Reference:
    """Read the file of `save_reference`.

    Raises:
        IntegrityError: no NPZ of ours, or an array is missing, unknown or of another type.
    """
    try:
        arrays = read_npz(path)
    except DataError as error:
        raise IntegrityError(
            f"{path.name} is no reference: {error} Make the bundle anew."
        ) from error
    kinds = {name: str(array.dtype) for name, array in arrays.items()}
    wanted = {field.name: "float32" for field in fields(Reference)}
    if kinds != wanted:
        raise IntegrityError(
            f"{path.name} is no reference: it holds {kinds}, not {wanted}. Make the bundle anew."
        )
    return Reference(**{name: array.astype(np.float32) for name, array in arrays.items()})
