"""Series become the model's input alike on the workstation and on the board."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgedistill.errors import ConfigError, DataError, IntegrityError, ShapeError
from edgedistill.preprocessing.transforms import Preprocessing, check_series, fill_missing, fit

PLAIN = {"length": 8, "sizing": "resample", "normalization": "none"}


def _unequal(rng, channels=2):
    return [rng.normal(size=(channels, t)).astype(np.float32) for t in (5, 8, 13)]


@pytest.mark.parametrize("sizing", ["resample", "pad"])
@pytest.mark.parametrize("normalization", ["none", "series", "train"])
def test_any_lengths_become_one_array(sizing, normalization, rng):
    """Series of any length become float32 (N, C, T) without NaN."""
    series = _unequal(rng)
    series[1][0, 2:4] = np.nan

    x = fit(series, length=8, sizing=sizing, normalization=normalization).apply(series)

    assert x.shape == (3, 2, 8)
    assert x.dtype == np.float32
    assert np.isfinite(x).all()


@pytest.mark.parametrize("sizing", ["resample", "pad"])
@pytest.mark.parametrize("normalization", ["none", "series", "train"])
def test_a_batch_gives_what_its_series_give_alone(sizing, normalization, rng):
    """No series changes another, so the board may send one at a time."""
    series = _unequal(rng)
    preprocessing = fit(series, length=8, sizing=sizing, normalization=normalization)

    together = preprocessing.apply(series)
    alone = np.concatenate([preprocessing.apply([one]) for one in series])

    np.testing.assert_array_equal(together, alone)


def test_missing_values_are_interpolated_and_ends_extended():
    """Between values a straight line, outside them the nearest value."""
    one = np.array([[np.nan, 1.0, np.nan, np.nan, 4.0, np.nan]])

    np.testing.assert_array_equal(fill_missing(one), [[1, 1, 2, 3, 4, 4]])
    assert np.isnan(one).any(), "the caller's array is left alone"


def test_resampling_is_linear_and_keeps_the_ends(rng):
    """A straight line stays one, and the first and last values stay."""
    line = np.linspace(3.0, 7.0, 9)[None, :]
    wild = rng.normal(size=(1, 9))

    x = fit([line], **PLAIN).apply([line, wild])

    np.testing.assert_allclose(x[0, 0], np.linspace(3.0, 7.0, 8), rtol=1e-6)
    np.testing.assert_allclose(x[1, 0, [0, -1]], wild[0, [0, -1]], rtol=1e-6)


def test_padding_repeats_the_last_value_and_cuts_the_end():
    """Short series end flat, without a jump; long ones lose their end."""
    short, long = np.array([[1.0, 5.0]]), np.arange(6.0)[None, :]

    x = fit([short], length=4, sizing="pad", normalization="none").apply([short, long])

    np.testing.assert_array_equal(x[:, 0], [[1, 5, 5, 5], [0, 1, 2, 3]])


def test_each_series_is_normalized_a_channel(rng):
    """Mean 0 and deviation 1 in every channel of every series."""
    series = [rng.normal(loc=50, scale=9, size=(3, 40)) for _ in range(4)]

    x = fit(series, length=40, sizing="resample", normalization="series").apply(series)

    np.testing.assert_allclose(x.mean(axis=2), 0, atol=1e-6)
    np.testing.assert_allclose(x.std(axis=2), 1, atol=1e-5)


def test_training_statistics_normalize_the_training_set_as_a_whole(rng):
    """Mean 0 and deviation 1 a channel over all series, while each keeps its own level."""
    series = [rng.normal(loc=level, size=(2, 30)) for level in (0, 10, 20)]

    x = fit(series, length=30, sizing="resample", normalization="train").apply(series)

    np.testing.assert_allclose(x.mean(axis=(0, 2)), 0, atol=1e-6)
    np.testing.assert_allclose(x.std(axis=(0, 2)), 1, atol=1e-5)
    assert x[0].mean() < -0.5 < 0.5 < x[2].mean()


@pytest.mark.parametrize("normalization", ["series", "train"])
@pytest.mark.parametrize("level", [0.0, 0.1, 1e6])
def test_a_constant_channel_becomes_zeros(normalization, level):
    """Nothing is divided by zero, nor by rounding noise."""
    noise = np.array([0.0, 1e-9, -1e-9, 0.0]) * level
    series = [np.stack([np.full(4, level) + noise, np.arange(4.0)]) for _ in range(2)]

    x = fit(series, length=4, sizing="resample", normalization=normalization).apply(series)

    np.testing.assert_allclose(x[:, 0], 0, atol=1e-2 if normalization == "train" else 0)
    assert x[:, 1].std() > 0.9


def test_without_a_length_the_longest_series_gives_it(rng):
    """Neither way of sizing loses anything then."""
    preprocessing = fit(_unequal(rng), length=None, sizing="pad", normalization="none")

    assert preprocessing.length == 13


@pytest.mark.parametrize(("max_length", "length"), [(9, 9), (99, 13)])
def test_the_longest_series_counts_up_to_a_limit(max_length, length, rng):
    """As papers do that shorten long series and leave short ones alone."""
    settings = {"sizing": "resample", "normalization": "none", "max_length": max_length}

    assert fit(_unequal(rng), length=None, **settings).length == length
    assert fit(_unequal(rng), length=20, **settings).length == 20, "a given length stands"


def test_a_limit_of_one_step_is_refused(rng):
    """One step has no course in time."""
    with pytest.raises(ConfigError, match="max_length must be a whole number of at least 2, got 1"):
        fit(_unequal(rng), length=None, max_length=1, sizing="pad", normalization="none")


@pytest.mark.parametrize("normalization", ["none", "series", "train"])
def test_it_survives_json(normalization, rng):
    """What travels as JSON gives bit for bit the same input."""
    series = _unequal(rng)
    before = fit(series, length=8, sizing="resample", normalization=normalization)

    after = Preprocessing.from_dict(json.loads(json.dumps(before.to_dict())))

    assert after == before
    np.testing.assert_array_equal(after.apply(series), before.apply(series))


@settings(max_examples=40, deadline=None)
@given(
    have=st.integers(2, 20),
    length=st.integers(2, 20),
    seed=st.integers(0, 99),
    sizing=st.sampled_from(["resample", "pad"]),
)
def test_sizing_never_leaves_the_range_of_the_series(have, length, seed, sizing):
    """No value is invented outside those that were measured."""
    one = np.random.default_rng(seed).normal(size=(1, have)).astype(np.float32)

    x = fit([one], length=length, sizing=sizing, normalization="none").apply([one])

    assert one.min() <= x.min() <= x.max() <= one.max()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"length": 1}, "length must be a whole number of at least 2, got 1"),
        ({"length": 8.0}, "length must be a whole number of at least 2, got 8.0"),
        ({"channels": 0}, "channels must be a whole number of at least 1, got 0"),
        ({"sizing": "crop"}, "sizing must be one of resample, pad; got 'crop'"),
        ({"normalization": "batch"}, "normalization must be one of none, series, train"),
        ({"features": "mfcc"}, "features must be one of none, log_mel, peak_log_mel; got 'mfcc'"),
        ({"normalization": "train"}, "train takes 1 means and deviations, got 0 and 0"),
        ({"mean": (0.0,)}, "series takes 0 means and deviations, got 1 and 0"),
        ({"normalization": "train", "mean": (0.0,), "std": (0.0,)}, "deviations positive"),
        ({"normalization": "train", "mean": (np.nan,), "std": (1.0,)}, "Means must be finite"),
        ({"features": "log_mel"}, "log_mel and a sample rate of None do not fit"),
        ({"sample_rate_hz": 8000}, "none and a sample rate of 8000 do not fit"),
        ({"features": "log_mel", "sample_rate_hz": 0}, "sample_rate_hz must be a whole number"),
        ({"length": 1 << 40}, "length must be at most 16777216, got 1099511627776"),
        ({"channels": 1 << 22}, "channels must be at most 2097152, got 4194304"),
        ({"features": "log_mel", "sample_rate_hz": 1 << 40}, "sample_rate_hz must be at most"),
        (
            {"features": "log_mel", "sample_rate_hz": 8000, "channels": 2048},
            "channels must be at most 1024, got 2048",
        ),
        (
            {"features": "log_mel", "sample_rate_hz": 500, "channels": 32},
            "500 Hz is too low for 32 mel bands",
        ),
    ],
)
def test_settings_that_make_no_sense_are_refused(changes, message):
    """The message names the setting, what was found and what is allowed."""
    with pytest.raises(ConfigError, match=message):
        Preprocessing(**{"length": 8, "channels": 1, **changes})


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda d: [d], "not an object"),
        (lambda d: {**d, "speed": 1}, r"unknown \['speed'\]"),
        (lambda d: {k: v for k, v in d.items() if k != "mean"}, r"lacks \['mean'\]"),
        (lambda d: {**d, "length": "8"}, "got '8'"),
        (lambda d: {**d, "length": True}, "got True"),
        (lambda d: {**d, "mean": None}, "cannot be used"),
        (lambda d: {**d, "normalization": "train", "mean": ["a"], "std": [1]}, "cannot be used"),
    ],
)
def test_a_tampered_description_is_refused(damage, message):
    """A bundle's preprocessing is checked as it is read."""
    good = Preprocessing(length=8, channels=1).to_dict()

    with pytest.raises(IntegrityError, match=message):
        Preprocessing.from_dict(damage(good))


@pytest.mark.parametrize(
    ("series", "error", "message"),
    [
        ([], DataError, "Toys holds no series"),
        ([np.ones(4)], ShapeError, r"series 0 .* has shape \(4,\), not \(channels, time steps\)"),
        ([np.ones((0, 4))], ShapeError, r"has shape \(0, 4\)"),
        ([np.ones((1, 4)), np.ones((2, 4))], ShapeError, "series 1 .* has 2 channels, .* has 1"),
        ([np.ones((1, 4)), np.ones((1, 1))], ShapeError, "series 1 .* 1 time steps; at least 2"),
        ([np.full((1, 4), np.nan)], DataError, "series 0 .* only NaN in channel 0"),
        ([np.array([[1, 2], [np.nan, np.nan]])], DataError, "only NaN in channel 1"),
        ([np.array([[1, np.inf]])], DataError, "has inf in channel 0 at step 1"),
        ([np.array([[-1e300, 1]])], DataError, "has -1e.300 in channel 0 at step 0"),
    ],
)
def test_series_that_cannot_be_used_are_named(series, error, message):
    """The message says which series, what is wrong, and where it came from."""
    with pytest.raises(error, match=message):
        check_series(series, "Toys")


def test_other_channels_than_fitted_are_refused(rng):
    """The board's sensor must give what the training set gave."""
    preprocessing = fit([rng.normal(size=(2, 8))], **PLAIN)

    with pytest.raises(ShapeError, match="have 3 channels, but this preprocessing takes 2"):
        preprocessing.apply([rng.normal(size=(3, 8))])


def test_log_mel_travels_and_takes_one_channel(rng):
    """A sound becomes bands by frames; what is kept suffices to do it again."""
    sounds = [rng.normal(size=(1, n)) for n in (1600, 2400)]
    fitted = fit(
        sounds,
        length=None,
        sizing="pad",
        normalization="train",
        features="log_mel",
        sample_rate_hz=8000,
    )

    x = Preprocessing.from_dict(json.loads(json.dumps(fitted.to_dict()))).apply(sounds)

    assert x.shape == (2, 32, 1 + (2400 - 200) // 80)
    assert fitted.input_channels == 1
    np.testing.assert_allclose(x.mean(axis=(0, 2)), 0, atol=1e-5)


def test_log_mel_refuses_several_channels(rng):
    """Two channels would need a mixture that nobody chose."""
    with pytest.raises(ShapeError, match="have 2 channels, but this preprocessing takes 1"):
        fit(
            [rng.normal(size=(2, 800))],
            length=8,
            sizing="pad",
            normalization="none",
            features="log_mel",
            sample_rate_hz=8000,
        )


@pytest.mark.parametrize(("features", "alike"), [("peak_log_mel", True), ("log_mel", False)])
def test_only_peak_log_mel_ignores_loudness(features, alike, rng):
    """A microphone further away must not change what a word looks like; silence stays finite."""
    loud = rng.normal(size=(1, 1600))
    preprocessing = fit(
        [loud],
        length=None,
        sizing="pad",
        normalization="none",
        features=features,
        sample_rate_hz=8000,
    )

    once, again, silence = preprocessing.apply([loud, loud / 64, np.zeros((1, 1600))])

    assert np.allclose(once, again, atol=1e-5) == alike
    assert np.ptp(silence) == 0
