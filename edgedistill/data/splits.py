"""Training, validation and test arrays, without leaks from the last two into preprocessing."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from edgedistill.data.facts import DataFacts, describe
from edgedistill.data.series import RawSeries, Source
from edgedistill.errors import ConfigError, DataError
from edgedistill.formats.schema import InputSchema
from edgedistill.io.arrays import Floats, Ints
from edgedistill.io.files import fingerprint
from edgedistill.preprocessing.transforms import Features, Normalization, Preprocessing, Sizing, fit

_TEST, _VALIDATION = 0, 1  # streams of the seed, so that the two draws are independent


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Split:
    """Inputs and labels for a model."""

    x: Floats  # (N, C, T)
    y: Ints  # (N,), 0..K-1


@dataclass(frozen=True, kw_only=True, eq=False)  # without slots: caches refer to it weakly
class Prepared:
    """A data set, split and preprocessed."""

    name: str
    train: Split
    validation: Split
    test: Split
    class_names: tuple[str, ...]  # K, in the order of the labels
    preprocessing: Preprocessing  # fitted on the training series alone
    fingerprint: str  # SHA-256 of arrays, labels, class names and preprocessing
    facts: DataFacts
    unlabeled: Floats | None = None  # (U, C, T), to learn from without labels
    schema: InputSchema | None = None  # how files like those of the series are read

    @property
    def channels(self) -> int:
        """C, of every series."""
        return int(self.train.x.shape[1])

    @property
    def length(self) -> int:
        """T, of every series."""
        return int(self.train.x.shape[2])

    @property
    def classes(self) -> int:
        """K."""
        return len(self.class_names)


def prepare(
    source: Source,
    *,
    length: int | None,
    max_length: int | None = None,
    sizing: Sizing,
    normalization: Normalization,
    features: Features = "none",
    validation_fraction: float = 0.2,
    test_fraction: float = 0.2,
    seed: int,
    unlabeled: Sequence[Floats] = (),
) -> Prepared:
    """Split a data set and preprocess it.

    Validation series are drawn from the training series, class by class; so are test series where
    the source brings none. The preprocessing is fitted on what then remains for training.

    Args:
        source: data set as read by `load`.
        length: T; None for the longest training series.
        max_length: upper bound of T where `length` is None.
        sizing: "resample" or "pad".
        normalization: "none", "series" or "train".
        features: "none", or for sounds "log_mel" or "peak_log_mel".
        validation_fraction: share of the training series; at least one of each class with two.
        test_fraction: share of all series, likewise; only where the source has no test series.
        seed: seed of both draws.
        unlabeled: series without labels, (C, T_i) each. Those that are validation series are left
            out.

    Raises:
        ConfigError: a setting is not allowed.
        DataError: too few series to split, or one without a label that is a test series.
    """
    parts = _draw(source, validation_fraction, test_fraction, seed)
    preprocessing = _fit(parts[0], length, max_length, sizing, normalization, features)
    data = _to_arrays(source, parts, preprocessing)
    return _with_unlabeled(data, unlabeled, parts) if unlabeled else data


def _with_unlabeled(
    data: Prepared, unlabeled: Sequence[Floats], parts: Sequence[RawSeries]
) -> Prepared:
    """Return a data set with unlabeled series, none of them a validation or test series."""
    validation, test = ({_key(one) for one in part.series} for part in parts[1:])
    leaks = [index for index, one in enumerate(unlabeled) if _key(one) in test]
    if leaks:
        raise DataError(
            f"{len(leaks)} of {len(unlabeled)} unlabeled series are test series (the first is "
            f"number {leaks[0] + 1}), which must not be learned from. Leave out what the labeled "
            "files hold, or name other test series."
        )
    kept = [one for one in unlabeled if _key(one) not in validation]
    remarks = [f"{len(kept)} unlabeled series are learned from too."]
    if len(kept) < len(unlabeled):
        left_out = len(unlabeled) - len(kept)
        remarks.append(f"{left_out} unlabeled series are validation series, and are left out.")
    if not kept:
        raise DataError("All unlabeled series are validation series. Give others.")
    x = data.preprocessing.apply(kept)
    hashed = [data.fingerprint, list(x.shape), hashlib.sha256(x.tobytes()).hexdigest()]
    return replace(
        data,
        unlabeled=x,
        fingerprint=fingerprint(hashed),
        facts=replace(data.facts, remarks=(*data.facts.remarks, *remarks)),
    )


def _key(one: Floats) -> bytes:
    return str(one.shape).encode() + one.astype(np.float32).tobytes()


def hold_out(labels: Sequence[str], fraction: float, seed: Sequence[int]) -> list[int]:
    """Draw a stratified hold-out; return its sorted indices.

    A class gives its share, rounded, but at least one series and never its last one: so each
    class with two series is on both sides, and a class with one stays where it is. scikit-learn's
    stratified split refuses such sets.

    >>> [len(hold_out(["a"] * n + ["b"] * 10, 0.2, [0])) for n in (1, 2, 10)]
    [2, 3, 4]
    """
    rng = np.random.default_rng(seed)
    indices: list[int] = []
    for label in sorted(set(labels)):
        members = [i for i, other in enumerate(labels) if other == label]
        count = min(max(1, round(fraction * len(members))), len(members) - 1)
        indices += rng.permutation(members)[:count].tolist()
    return sorted(indices)


def stratified_series(split: Split, count: int, seed: int) -> Floats:
    """Return about `count` series of a split, class by class in proportion.

    Args:
        split: series and labels.
        count: number of series; a split that has no more is returned whole.
        seed: seed of the draw.
    """
    if len(split.x) <= count:
        return split.x
    rows = np.array(hold_out([str(label) for label in split.y], count / len(split.x), [seed]))
    series: Floats = split.x[rows]
    return series


def _draw(
    source: Source, validation_fraction: float, test_fraction: float, seed: int
) -> tuple[RawSeries, RawSeries, RawSeries]:
    """Draw training, validation and test series."""
    if seed < 0:
        raise ConfigError(f"seed must be 0 or more, got {seed}.")
    train, test = source.train, source.test
    if test is None:
        train, test = _divide(train, test_fraction, [seed, _TEST], "test")
    train, validation = _divide(train, validation_fraction, [seed, _VALIDATION], "validation")
    return train, validation, test


def _divide(
    raw: RawSeries, fraction: float, seed: Sequence[int], split: str
) -> tuple[RawSeries, RawSeries]:
    if not 0 < fraction < 1:
        raise ConfigError(f"{split}_fraction must lie between 0 and 1, got {fraction}.")
    held_out = hold_out(raw.labels, fraction, seed)
    if not held_out:
        raise DataError(
            f"{raw.origin} has no class with two series left for training, so none can be held "
            f"out for {split}. Give more series."
        )
    rest = sorted(set(range(len(raw.labels))) - set(held_out))
    return raw.take(rest), raw.take(held_out)


def _fit(
    train: RawSeries,
    length: int | None,
    max_length: int | None,
    sizing: Sizing,
    normalization: Normalization,
    features: Features,
) -> Preprocessing:
    return fit(
        train.series,
        length=length,
        max_length=max_length,
        sizing=sizing,
        normalization=normalization,
        features=features,
        sample_rate_hz=train.sample_rate_hz,
    )


def _to_arrays(
    source: Source, parts: Sequence[RawSeries], preprocessing: Preprocessing
) -> Prepared:
    """Preprocess training, validation and test series."""
    names = _class_names(parts[0].labels)
    splits = [_arrays(part, preprocessing, names) for part in parts]
    return Prepared(
        name=source.name,
        train=splits[0],
        validation=splits[1],
        test=splits[2],
        class_names=names,
        preprocessing=preprocessing,
        fingerprint=_fingerprint(splits, names, preprocessing),
        facts=describe(source, parts, [split.x for split in splits], names),
        schema=parts[0].schema,
    )


def _class_names(labels: Sequence[str]) -> tuple[str, ...]:
    """Classes in order: as numbers where all are numbers, else as text."""
    names = sorted(set(labels))
    try:
        return tuple(sorted(names, key=float))
    except ValueError:
        return tuple(names)


def _arrays(raw: RawSeries, preprocessing: Preprocessing, names: tuple[str, ...]) -> Split:
    number = {name: k for k, name in enumerate(names)}
    y = np.array([number[label] for label in raw.labels], dtype=np.int64)
    return Split(x=preprocessing.apply(raw.series), y=y)


def _fingerprint(
    splits: Sequence[Split], names: tuple[str, ...], preprocessing: Preprocessing
) -> str:
    arrays = [a for split in splits for a in (split.x, split.y)]
    return fingerprint(
        {
            "arrays": [[list(a.shape), hashlib.sha256(a.tobytes()).hexdigest()] for a in arrays],
            "class_names": list(names),
            "preprocessing": preprocessing.to_dict(),
        }
    )
