"""Preprocessing: from recorded series to the array that a model takes.

The same code runs where the model is trained and on the board, so NumPy is all it may need.
Its settings are stored with the model as JSON: `Preprocessing.to_dict`.
The order is fixed: fill in missing values, extract features, bring to one length, normalize.
Every series is treated alone: a batch gives what its series give one by one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from edgedistill.errors import ConfigError, DataError, IntegrityError, ShapeError
from edgedistill.io.arrays import AnyFloats
from edgedistill.preprocessing.log_mel import MEL_BANDS, log_mel, mel_bank

Sizing = Literal["resample", "pad"]
Normalization = Literal["none", "series", "train"]
Features = Literal["none", "log_mel", "peak_log_mel"]

_OF_SOUNDS: tuple[Features, ...] = ("log_mel", "peak_log_mel")
SHORTEST = 2  # time steps; one step has no course in time
MOST_VALUES = 1 << 24  # of a series; what claims more is an attempt to take all memory
_LOWEST_RATE_HZ, _HIGHEST_RATE_HZ, _MOST_BANDS = 100, 1_000_000, 1_024  # of sounds in use
_FLOAT32 = np.finfo(np.float32)


@dataclass(frozen=True, slots=True, kw_only=True)
class Preprocessing:
    """Settings that turn series (C, T_i) into one float32 array (N, C, T).

    Raises:
        ConfigError: a value is not allowed, or two of them do not fit together.
    """

    length: int  # T, time steps (frames of sounds)
    channels: int  # C of the result; of sounds the number of mel bands
    sizing: Sizing = "resample"  # linear interpolation | last value repeated, or end cut off
    normalization: Normalization = "series"  # a channel of each series to mean 0, deviation 1
    mean: tuple[float, ...] = ()  # of the training series, a channel; only with "train"
    std: tuple[float, ...] = ()
    features: Features = "none"
    sample_rate_hz: int | None = None  # needed by log_mel and peak_log_mel

    def __post_init__(self) -> None:
        _check_choice("sizing", self.sizing, get_args(Sizing))
        _check_choice("normalization", self.normalization, get_args(Normalization))
        _check_choice("features", self.features, get_args(Features))
        _check_whole("length", self.length, SHORTEST)
        _check_whole("channels", self.channels, 1, MOST_VALUES // self.length)
        _check_statistics(self)
        _check_rate(self)

    @property
    def input_channels(self) -> int:
        """Channels a series must have: one microphone for sounds, else those of the result."""
        return 1 if self.features in _OF_SOUNDS else self.channels

    def apply(self, series: Sequence[AnyFloats] | AnyFloats) -> npt.NDArray[np.float32]:
        """Return the model's input.

        Args:
            series: series, (C, T_i) each; lengths may differ, NaN is a missing value.

        Returns:
            float32 (N, C, T).

        Raises:
            ShapeError: a series has other channels than these, or is too short.
            DataError: no series, a channel without any value, or an infinite value.
        """
        self._check_channels(check_series(series))
        x = np.empty((len(series), self.channels, self.length), dtype=np.float32)
        for index, one in enumerate(series):
            x[index] = self._normalized(_sized(self._extracted(one), self.length, self.sizing))
        return x

    def to_dict(self) -> dict[str, object]:
        """Return plain values that JSON can hold."""
        return asdict(self) | {"mean": list(self.mean), "std": list(self.std)}

    @classmethod
    def from_dict(cls, value: object) -> Preprocessing:
        """Return the preprocessing of `to_dict`.

        Raises:
            IntegrityError: a key is missing or unknown, or a value is not allowed.
        """
        if not isinstance(value, Mapping):
            raise IntegrityError(
                f"The preprocessing is {value!r}, not an object. Make the bundle anew."
            )
        known = {field.name for field in fields(cls)}
        if set(value) != known:
            raise IntegrityError(
                f"The preprocessing lacks {sorted(known - set(value))} and has unknown "
                f"{sorted(set(value) - known)}. Read it with the version that wrote it."
            )
        try:
            return cls(**{**value, "mean": tuple(value["mean"]), "std": tuple(value["std"])})
        except (ConfigError, TypeError) as error:
            raise IntegrityError(
                f"The preprocessing cannot be used: {error} Make the bundle anew."
            ) from error

    def _check_channels(self, channels: int) -> None:
        if channels != self.input_channels:
            raise ShapeError(
                f"The series have {channels} channels, but this preprocessing takes "
                f"{self.input_channels}. Give the channels it was fitted on, in the same order."
            )

    def _extracted(self, one: AnyFloats) -> npt.NDArray[np.float64]:
        filled = fill_missing(one)
        if self.sample_rate_hz is None:
            return filled
        wave = filled[0]
        if self.features == "peak_log_mel":
            wave = wave / (np.abs(wave).max() or 1.0)  # silence stays silence
        return log_mel(wave, self.sample_rate_hz, self.channels)

    def _normalized(self, one: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        if self.normalization == "none":
            return one
        if self.normalization == "train":
            mean, std = (np.array(row, np.float64)[:, None] for row in (self.mean, self.std))
            return (one - mean) / std
        centered = one - one.mean(axis=1, keepdims=True)
        spread = one.std(axis=1, keepdims=True)
        flat = _is_flat(one, spread)
        scaled: npt.NDArray[np.float64] = centered / np.where(flat, 1.0, spread)
        return np.where(flat, 0.0, scaled)


def fit(
    series: Sequence[AnyFloats],
    *,
    length: int | None,
    max_length: int | None = None,
    sizing: Sizing,
    normalization: Normalization,
    features: Features = "none",
    sample_rate_hz: int | None = None,
) -> Preprocessing:
    """Return the preprocessing for a training set; give it training series only.

    Args:
        series: training series, (C, T_i) each.
        length: time steps of the result; None takes the longest series, the only length at
            which neither way of sizing loses anything, but at most `max_length`.
        sizing: "resample" or "pad".
        normalization: "none", "series", or "train" (mean and deviation a channel, kept).
        features: "none", "log_mel" (frames of log energies), or "peak_log_mel" (peak at 1 first).
        sample_rate_hz: sample rate of the waveforms, for both features.

    Raises:
        ConfigError: a setting is not allowed, or they do not fit together.
        DataError: the series cannot be used; see `Preprocessing.apply`.
    """
    channels = check_series(series)
    bare = Preprocessing(
        length=SHORTEST if length is None else length,
        channels=MEL_BANDS if features in _OF_SOUNDS else channels,
        sizing=sizing,
        normalization="none",
        features=features,
        sample_rate_hz=sample_rate_hz if features in _OF_SOUNDS else None,
    )
    bare._check_channels(channels)
    if length is None:
        bare = replace(bare, length=_longest(bare, series, max_length))
    if normalization == "train":
        return _with_statistics(bare, bare.apply(series).astype(np.float64))
    return replace(bare, normalization=normalization)


def check_series(series: Sequence[AnyFloats] | AnyFloats, what: str = "The input") -> int:
    """Return the number of channels that all series (C, T_i) share; `what` is named in errors.

    Raises:
        ShapeError: a series is not (C, T), too short, or has other channels than the first.
        DataError: no series, a channel without any value, or an infinite value.
    """
    if len(series) == 0:
        raise DataError(f"{what} holds no series. Give at least one.")
    for index, one in enumerate(series):
        where = f"{what}: series {index} (counting from 0)"
        if one.ndim != 2 or one.shape[0] < 1:
            raise ShapeError(f"{where} has shape {one.shape}, not (channels, time steps).")
        if one.shape[0] != series[0].shape[0]:
            raise ShapeError(
                f"{where} has {one.shape[0]} channels, the first has {series[0].shape[0]}. "
                "Give every series the same channels."
            )
        if one.shape[1] < SHORTEST:
            raise ShapeError(
                f"{where} has {one.shape[1]} time steps; at least {SHORTEST} are needed. Remove it."
            )
        _check_values(one, where)
    return int(series[0].shape[0])


def fill_missing(one: AnyFloats) -> npt.NDArray[np.float64]:
    """Return (C, T) with NaN filled in linearly, and at the ends by the nearest value.

    >>> fill_missing(np.array([[np.nan, 1.0, np.nan, 3.0]]))
    array([[1., 1., 2., 3.]])
    """
    filled = one.astype(np.float64)
    steps = np.arange(filled.shape[1])
    for channel in filled:
        missing = np.isnan(channel)
        if missing.any():
            channel[missing] = np.interp(steps[missing], steps[~missing], channel[~missing])
    return filled


def _longest(
    preprocessing: Preprocessing, series: Sequence[AnyFloats], max_length: int | None
) -> int:
    """Return the length of the longest series after feature extraction, within the bounds."""
    longest: int = preprocessing._extracted(max(series, key=lambda one: one.shape[1])).shape[1]
    if max_length is not None:
        _check_whole("max_length", max_length, SHORTEST)
        longest = min(longest, max_length)
    return max(SHORTEST, longest)


def _with_statistics(preprocessing: Preprocessing, x: npt.NDArray[np.float64]) -> Preprocessing:
    """Return a preprocessing that normalizes by mean and deviation of x, (N, C, T)."""
    mean, std = x.mean(axis=(0, 2)), x.std(axis=(0, 2))  # (N, C, T) -> (C,)
    flat = _is_flat(x.transpose(1, 0, 2).reshape(x.shape[1], -1), std[:, None])[:, 0]
    std = np.where(flat, 1.0, std)
    return replace(
        preprocessing, normalization="train", mean=tuple(mean.tolist()), std=tuple(std.tolist())
    )


def _sized(one: npt.NDArray[np.float64], length: int, sizing: Sizing) -> npt.NDArray[np.float64]:
    have = one.shape[1]
    if have == length:
        return one
    if sizing == "pad":
        # The last value, not zero: a jump to zero would be an event that never happened.
        return np.pad(one[:, :length], ((0, 0), (0, max(0, length - have))), mode="edge")
    at = np.linspace(0, have - 1, length)
    return np.stack([np.interp(at, np.arange(have), channel) for channel in one])


def _is_flat(rows: AnyFloats, spread: AnyFloats) -> npt.NDArray[np.bool_]:
    """Return which rows vary by less than float32 resolves: dividing would amplify rounding."""
    flat: npt.NDArray[np.bool_] = spread <= _FLOAT32.eps * np.abs(rows).max(axis=1, keepdims=True)
    return flat


def _check_values(one: AnyFloats, where: str) -> None:
    missing = np.isnan(one).all(axis=1)
    if missing.any():
        raise DataError(
            f"{where} has only NaN in channel {int(missing.argmax())}. Remove it or fill it in."
        )
    huge = np.argwhere(np.abs(one) > _FLOAT32.max)
    if len(huge):
        channel, step = huge[0].tolist()
        raise DataError(
            f"{where} has {one[channel, step]} in channel {channel} at step {step}, which float32 "
            "cannot hold. Write a missing value as NaN, or rescale the series."
        )


def _check_choice(key: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ConfigError(f"{key} must be one of {', '.join(allowed)}; got {value!r}.")


def _check_whole(key: str, value: int, least: int, most: int = MOST_VALUES) -> None:
    if type(value) is not int or value < least:
        raise ConfigError(f"{key} must be a whole number of at least {least}, got {value!r}.")
    if value > most:
        raise ConfigError(f"{key} must be at most {most}, got {value}.")


def _check_rate(settings: Preprocessing) -> None:
    rate, bands = settings.sample_rate_hz, settings.channels
    if (rate is not None) != (settings.features in _OF_SOUNDS):
        raise ConfigError(
            f"features {settings.features} and a sample rate of {rate} do not fit together. Sounds "
            "(a folder of WAV files) have a rate, and only log_mel and peak_log_mel take one."
        )
    if rate is None:
        return
    _check_whole("sample_rate_hz", rate, _LOWEST_RATE_HZ, _HIGHEST_RATE_HZ)
    _check_whole("channels", bands, 1, _MOST_BANDS)
    if not mel_bank(rate, bands).any(axis=1).all():  # a band falls between two frequencies
        raise ConfigError(
            f"A sample rate of {rate} Hz is too low for {bands} mel bands. Use features none."
        )


def _check_statistics(settings: Preprocessing) -> None:
    want = settings.channels if settings.normalization == "train" else 0
    if len(settings.mean) != want or len(settings.std) != want:
        raise ConfigError(
            f"normalization {settings.normalization} takes {want} means and deviations, got "
            f"{len(settings.mean)} and {len(settings.std)}. Take them from fit()."
        )
    finite = all(map(math.isfinite, settings.mean + settings.std))
    if not finite or min(settings.std, default=1) <= 0:
        raise ConfigError(
            f"Means must be finite and deviations positive, got {settings.mean} and {settings.std}."
        )
