"""Profiles: counts of a model's inputs, predictions and saliency, of fixed size.

A profile belongs to the reference of one bundle: its bins are that reference's. Two profiles of
the same one add up, whichever board they come from. It keeps no series.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from edgedistill.bundle.drift_reference import FEATURES, Reference, features
from edgedistill.errors import DataError, MachineError, UsageError
from edgedistill.io import files
from edgedistill.io.arrays import Doubles, Floats, Ints
from edgedistill.io.npz import read_npz

BINS: Final = 10  # of a histogram, as many series each in the reference, which has at least 20
_MOST: Final = 1 << 53  # of a count: sums stay exact
_NARROW: Final = 1e-3  # of a channel's size: what varies less counts as constant
SAVE_S: Final = 60.0  # between writes: what a power cut may lose


@dataclass(frozen=True, slots=True)
class Bins:
    """Histogram bins of drift profiles, at the quantiles of the reference."""

    fingerprint: str  # SHA-256 of the reference's arrays
    inputs: Doubles  # (C * F, BINS - 1), edges
    confidence: Doubles  # (1, BINS - 1), edges in log-odds
    mean_maps: Doubles  # (K, W), of the reference; zeros where it has too few of the class
    closeness: Doubles  # (K, BINS - 1), edges of the correlation with the class's mean map

    @classmethod
    def from_reference(cls, reference: Reference) -> Bins:
        """Return the bins of a reference."""
        count, classes = reference.logits.shape
        predicted = reference.logits.argmax(axis=1)
        maps = reference.signed.astype(np.float64)
        means = np.zeros((classes, maps.shape[1]))
        closeness = np.zeros((classes, BINS - 1))
        for index in range(classes):
            own = maps[predicted == index]
            if len(own) > 1:
                means[index] = own.mean(axis=0)
                closeness[index] = _edges(closeness_within(own)[:, None], np.ones(1))[0]
        sure = confidence(reference.logits)
        digest = hashlib.sha256()
        for array in (reference.features, reference.logits, reference.signed):
            digest.update(np.ascontiguousarray(array).tobytes())
        return cls(
            fingerprint=digest.hexdigest(),
            inputs=_edges(
                reference.features.reshape(count, -1).astype(np.float64),
                np.abs(reference.features).max(axis=(0, 2)).repeat(len(FEATURES)),
            ),
            confidence=_edges(sure[:, None], np.abs(sure).max(keepdims=True)),
            mean_maps=means,
            closeness=closeness,
        )


class Profile:
    """The counts of everything that was predicted.

    Args:
        bins: bins of the reference of the bundle that predicts.
    """

    def __init__(self, bins: Bins) -> None:
        classes, windows = bins.mean_maps.shape
        self.bins = bins
        self.classes: Ints = np.zeros(classes, np.int64)  # series by predicted class
        self.inputs: Ints = np.zeros((len(bins.inputs), BINS), np.int64)
        self.confidence: Ints = np.zeros((1, BINS), np.int64)
        self.explained: Ints = np.zeros(classes, np.int64)  # series with a map, by class
        self.map_sums: Doubles = np.zeros((classes, windows))
        self.map_squares: Doubles = np.zeros((classes, windows))
        self.closeness: Ints = np.zeros((classes, BINS), np.int64)

    @property
    def series(self) -> int:
        """Series that were predicted."""
        return int(self.classes.sum())

    def add(self, series: Floats, logits: Floats, signed: Floats | None = None) -> None:
        """Count one prediction.

        Args:
            series: the model's input, (C, T).
            logits: (K,).
            signed: support of each window for the predicted class, (W,), where it was computed.
        """
        predicted = int(logits.argmax())
        self.classes[predicted] += 1
        _count(self.inputs, self.bins.inputs, features(series[None]).reshape(-1))
        _count(self.confidence, self.bins.confidence, confidence(logits[None]))
        if signed is None:
            return
        wide = signed.astype(np.float64)
        self.explained[predicted] += 1
        self.map_sums[predicted] += wide
        self.map_squares[predicted] += wide**2
        close = correlations(wide, self.bins.mean_maps[predicted])
        own = slice(predicted, predicted + 1)
        _count(self.closeness[own], self.bins.closeness[own], close[None])

    def merge(self, other: Profile) -> None:
        """Add what another profile counted.

        Raises:
            UsageError: it belongs to another reference.
        """
        if other.bins.fingerprint != self.bins.fingerprint:
            raise UsageError(
                "The profiles belong to different bundles. Compare each with its own bundle."
            )
        for name, array in other.arrays().items():
            mine = getattr(self, name)
            mine += array

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return all counts and sums, by name."""
        names = ("classes", "inputs", "confidence", "explained", "map_sums", "map_squares")
        return {name: getattr(self, name) for name in (*names, "closeness")}

    def save(self, path: Path) -> None:
        """Write the profile as NPZ, whole or not at all.

        Raises:
            MachineError: the disk refuses.
        """
        mark = np.frombuffer(bytes.fromhex(self.bins.fingerprint), np.uint8)
        arrays: dict[str, Any] = {"reference": mark, **self.arrays()}
        with files.whole_file(path) as partial, partial.open("wb") as stream:
            np.savez(stream, **arrays)  # NumPy 1 would store allow_pickle as an array


def load(path: Path, bins: Bins) -> Profile:
    """Return the profile in a file of `Profile.save`.

    Raises:
        DataError: it cannot be read, is no profile, or contradicts itself.
        UsageError: it belongs to another reference.
    """
    try:
        arrays = read_npz(path)
    except DataError as error:
        raise DataError(f"{path} is no profile: {error} Or start a new one.") from error
    profile = Profile(bins)
    mark = arrays.pop("reference", np.zeros(0, np.uint8))
    if not _fit(arrays, profile.arrays()) or mark.dtype != np.uint8:
        raise DataError(f"{path} is no profile of these classes and windows. Start a new one.")
    if mark.tobytes().hex() != bins.fingerprint:
        raise UsageError(
            f"{path} was kept with another bundle. Compare it with that one, or start a new one."
        )
    for name, array in arrays.items():
        getattr(profile, name)[...] = array
    if not _agree(profile):
        raise DataError(f"The counts in {path} contradict each other. Start a new profile.")
    return profile


def confidence(logits: Floats) -> Doubles:
    """Return the log-odds of the top class, (N, K) -> (N,); a probability would saturate."""
    wide = np.sort(logits.astype(np.float64), axis=1)
    rest = wide[:, :-1] - wide[:, -2:-1]
    odds: Doubles = wide[:, -1] - wide[:, -2] - np.log(np.exp(rest).sum(axis=1))
    return odds


def correlations(maps: Doubles, others: Doubles) -> Doubles:
    """Return Pearson correlations, (..., W) -> (...); 0 for a constant map."""
    first = maps - maps.mean(axis=-1, keepdims=True)
    second = others - others.mean(axis=-1, keepdims=True)
    scale = np.sqrt((first**2).sum(axis=-1) * (second**2).sum(axis=-1))
    product = (first * second).sum(axis=-1)
    found: Doubles = np.where(scale > 0, product / np.where(scale > 0, scale, 1.0), 0.0)
    return found


def closeness_within(maps: Doubles) -> Doubles:
    """Return how each map correlates with the mean of the others, (N, W) -> (N,), N above 1."""
    others = (maps.sum(axis=0) - maps) / (len(maps) - 1)
    return correlations(maps, others)


def digitize(edges: Doubles, values: Doubles) -> NDArray[np.intp]:
    """Return the bin of each value; edges (V, BINS - 1), values (..., V)."""
    found: NDArray[np.intp] = (values[..., None] > edges).sum(axis=-1)
    return found


class Profiler:
    """Accumulate predictions into a profile; write it periodically and at the end.

    An observer of a `Predictor`. A file that is there is added to. One of another bundle, such as
    the release before, is moved aside: a service must start all the same.

    Args:
        path: path of the profile's file.
        reference: reference of the bundle that predicts.
        log: callback for messages to the user.

    Raises:
        DataError: the file that is there is no profile.
    """

    def __init__(
        self, path: Path, reference: Reference, *, log: Callable[[str], None] = print
    ) -> None:
        self._path = path
        self._log = log
        self._saved_s = time.monotonic()
        bins = Bins.from_reference(reference)
        self.profile = Profile(bins)
        if not path.exists():
            return
        try:
            self.profile = load(path, bins)
        except UsageError:
            aside = _free(path)
            path.rename(aside)
            log(f"{path} was kept with another bundle; it is {aside} now, and a new one begins.")

    def __call__(self, series: Floats, logits: Floats, signed: Floats | None) -> None:
        """Count one prediction: the model's input (C, T), its logits (K,), its map (W,)."""
        self.profile.add(series, logits, signed)
        if time.monotonic() - self._saved_s < SAVE_S:
            return
        self._saved_s = time.monotonic()
        try:
            self.profile.save(self._path)
        except MachineError as error:  # predictions matter more; the exit raises it
            self._log(f"The profile was not written: {error}")

    def __enter__(self) -> Profiler:
        """Refuse a place that cannot be written before anything is predicted."""
        self.profile.save(self._path)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Write what was counted."""
        self.profile.save(self._path)


def _count(counts: Ints, edges: Doubles, values: Doubles | Floats) -> None:
    counts[np.arange(len(edges)), digitize(edges, np.asarray(values, np.float64))] += 1


def _edges(values: Doubles, scale: Doubles | Floats) -> Doubles:
    """Return the quantiles of each column, (N, V) -> (V, BINS - 1).

    What is constant in the reference, such as the mean of normalized series, gets a bin that
    rounding does not leave; `scale`, (V,), is the size of the values.
    """
    quantiles: Doubles = np.quantile(values, np.arange(1, BINS) / BINS, axis=0).T
    margin, middle = _NARROW * scale, values.mean(axis=0)
    constant = values.max(axis=0) - values.min(axis=0) < margin
    for column in np.flatnonzero(constant):
        low, high = middle[column] - margin[column], middle[column] + margin[column]
        quantiles[column] = np.where(np.arange(BINS - 1) < BINS // 2, low, high)
    return quantiles


def _fit(arrays: Mapping[str, NDArray[Any]], kinds: Mapping[str, NDArray[Any]]) -> bool:
    """Return whether arrays are those of a profile: names, types, shapes, no negatives."""
    return arrays.keys() == kinds.keys() and all(
        array.dtype == kinds[name].dtype
        and array.shape == kinds[name].shape
        and bool(np.isfinite(array).all())
        and (name == "map_sums" or not (array < 0).any())
        for name, array in arrays.items()
    )


def _agree(profile: Profile) -> bool:
    """Return whether all counts are of the same number of series."""
    return bool(
        (profile.classes < _MOST).all()
        and (profile.inputs.sum(axis=1) == profile.series).all()
        and profile.confidence.sum() == profile.series
        and (profile.closeness.sum(axis=1) == profile.explained).all()
        and (profile.explained <= profile.classes).all()
    )


def _free(path: Path) -> Path:
    """Return an unused name in a file's folder."""
    number = 1
    while (aside := path.with_name(f"{path.stem}.{number}{path.suffix}")).exists():
        number += 1
    return aside
