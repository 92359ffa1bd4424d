"""The perturbation plan: which windows of a series are replaced, and by what.

Teacher, student, every variant and the engine on the device run on the same
perturbed copies; so the plan is a small value that is seeded, recorded and
stored in the bundle. NumPy only, because the board uses it.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

import numpy as np

from edgedistill.errors import ConfigError, DataError, ShapeError
from edgedistill.io.arrays import Floats, Ints

Baseline = Literal["mean", "zero", "local_mean"]
LONGEST = 1 << 24  # steps; what claims more is no series but an attempt to take all memory
DEFAULT_WIDTH_FRACTION = 16  # a window is a sixteenth of the series: about 31 half-overlapping ones


@dataclass(frozen=True, slots=True, kw_only=True)
class PerturbationPlan:
    """Windows of one width on a regular grid, and the baseline that replaces them.

    The baseline matters: between "zero" and "local_mean" maps of the same model
    correlate only .80 to .90, so it is part of the plan.
    """

    length: int  # T, steps of the series
    width: int  # w, steps of a window
    stride: int  # steps between window starts
    baseline: Baseline = "mean"  # of the series, a channel apart
    temperature: float = 8.0  # of the KL map; the published default

    def __post_init__(self) -> None:
        steps = self.length, self.width, self.stride
        if any(type(count) is not int for count in steps):
            raise ConfigError(
                f"{steps} as length, width and stride is no perturbation plan. Give whole numbers."
            )
        if self.length > LONGEST:
            raise ConfigError(
                f"A series of {self.length} steps is too long; at most {LONGEST} are explained."
            )
        if not 1 <= self.width <= self.length:
            raise DataError(
                f"A window of {self.width} steps does not fit a series of {self.length}. "
                "Choose a smaller saliency width or a larger data length."
            )
        if self.stride < 1 or not 0 < self.temperature <= sys.float_info.max:
            raise ConfigError(
                f"stride is {self.stride} and temperature {self.temperature}; stride must be at "
                "least 1 and temperature above 0 and finite."
            )
        if self.baseline not in get_args(Baseline):
            raise ConfigError(
                f"baseline is {self.baseline!r}; choose one of {', '.join(get_args(Baseline))}."
            )

    @property
    def starts(self) -> Ints:
        """First step of every window, (W,); the last window ends with the series."""
        grid = np.arange(0, self.length - self.width + 1, self.stride, dtype=np.int64)
        last = self.length - self.width
        return grid if grid[-1] == last else np.append(grid, last)

    def to_dict(self) -> dict[str, Any]:
        """Return the plan as JSON-able values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> PerturbationPlan:
        """Return the plan that `to_dict` wrote.

        Raises:
            ConfigError: a key is missing or unknown, or a value not allowed.
            DataError: the window does not fit the series.
        """
        try:
            return cls(**values)
        except TypeError as error:
            raise ConfigError(f"{dict(values)} is no perturbation plan: {error}.") from error


def default_plan(length: int, *, width: int | None = None) -> PerturbationPlan:
    """Return half-overlapping windows of a sixteenth of the series, at least 2 steps.

    >>> default_plan(96)
    PerturbationPlan(length=96, width=6, stride=3, baseline='mean', temperature=8.0)
    """
    width = max(2, round(length / DEFAULT_WIDTH_FRACTION)) if width is None else width
    return PerturbationPlan(length=length, width=width, stride=max(1, width // 2))


def unseen_plan(plan: PerturbationPlan) -> PerturbationPlan:
    """Return a plan no student was trained on: wider windows, another baseline.

    Agreement that holds only under the plan it was tuned for is no agreement.
    """
    width = min(plan.length, plan.width + max(1, plan.width // 2))
    return PerturbationPlan(
        length=plan.length,
        width=width,
        stride=max(1, width // 2),
        baseline="local_mean" if plan.baseline != "local_mean" else "zero",
        temperature=plan.temperature,
    )


def baseline_patches(plan: PerturbationPlan, series: Floats) -> Floats:
    """Return the replacement of each window of each series.

    Args:
        series: (N, C, T).

    Returns:
        (N, W, C, w) float32.

    Raises:
        ShapeError: the series are not of the plan's length.
    """
    if series.ndim != 3 or series.shape[2] != plan.length:
        raise ShapeError(
            f"Got series of shape {series.shape} for a plan of {plan.length} steps. "
            "Preprocess them with the bundle's preprocessing first."
        )
    starts = plan.starts
    shape = (len(series), len(starts), series.shape[1], plan.width)
    if plan.baseline == "zero":
        return np.zeros(shape, dtype=np.float32)
    if plan.baseline == "mean":
        level = series.mean(axis=2)[:, None]  # (N, 1, C)
    else:
        level = _local_means(series, starts, plan.width)  # (N, W, C)
    patches: Floats = np.broadcast_to(level[..., None], shape).astype(np.float32)
    return patches


def draw_donors(labels: Ints, donor_labels: Ints, windows: int, rng: np.random.Generator) -> Ints:
    """Draw for each sample `windows` series of other classes from a bank.

    Args:
        labels: classes of the samples, (N,).
        donor_labels: classes of the series to draw from, (M,).
        windows: W, draws a sample.

    Returns:
        Indices into the bank, (N, W); none has its sample's label.

    Raises:
        DataError: a sample has no opposing series in the bank.

    Source: the opposing series of Temporal Saliency Distillation, arXiv:2601.04263.
    """
    donors = np.empty((len(labels), windows), dtype=np.int64)
    for label in np.unique(labels):
        opposing = np.flatnonzero(donor_labels != label)
        if not len(opposing):
            raise DataError(
                f"Every series has class {label}, so none opposes it. Bring two classes or more."
            )
        rows = labels == label
        donors[rows] = rng.choice(opposing, size=(int(rows.sum()), windows))
    return donors


def draw_starts(
    samples: int, windows: int, *, length: int, width: int, rng: np.random.Generator
) -> Ints:
    """Draw for each sample distinct window starts, the very last one included.

    Returns:
        (N, W); a start repeats only when there are fewer places than windows.

    Raises:
        DataError: the window does not fit the series.
    """
    number = start_count(length, width)
    starts = np.empty((samples, windows), dtype=np.int64)
    for sample in range(samples):
        starts[sample] = rng.choice(number, size=windows, replace=number < windows)
    return starts


def start_count(length: int, width: int) -> int:
    """Return how many starts a window has in a series.

    Raises:
        DataError: it does not fit.
    """
    if not 1 <= width <= length:
        raise DataError(
            f"A window of {width} steps does not fit a series of {length}. Choose a smaller width."
        )
    return length - width + 1


def donor_patches(donor_series: Floats, donors: Ints, starts: Ints, width: int) -> Floats:
    """Return each donor's window at the place where it will be written.

    Args:
        donor_series: (M, C, T).
        donors: indices into the bank, (N, W).
        starts: (N, W).

    Returns:
        (N, W, C, w).
    """
    steps = starts[..., None] + np.arange(width)  # (N, W, w)
    windows: Floats = donor_series[donors[..., None], :, steps]  # (N, W, w, C)
    return np.ascontiguousarray(windows.transpose(0, 1, 3, 2))


def _local_means(series: Floats, starts: Ints, width: int) -> Floats:
    """Return the mean of each window with one width of context on either side, (N, W, C)."""
    length = series.shape[2]
    sums = np.cumsum(np.pad(series.astype(np.float64), ((0, 0), (0, 0), (1, 0))), axis=2)
    low = np.maximum(starts - width, 0)
    high = np.minimum(starts + 2 * width, length)
    means = (sums[:, :, high] - sums[:, :, low]) / (high - low)  # (N, C, W)
    result: Floats = means.transpose(0, 2, 1).astype(np.float32)
    return result
