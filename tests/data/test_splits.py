"""Splits are stratified and seeded, and nothing leaks from validation or test into training."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from edgedistill.data import RawSeries, Source, Split, load, prepare
from edgedistill.data.splits import hold_out, stratified_series
from edgedistill.errors import ConfigError, DataError

SETTINGS = {"length": None, "sizing": "resample", "normalization": "train", "seed": 0}


def _source(labels, rng, lengths=None):
    lengths = lengths or [6] * len(labels)
    series = [rng.normal(size=(1, t)).astype(np.float32) for t in lengths]
    return Source(
        name="toys",
        train=RawSeries(series=series, labels=list(labels), origin="toys"),
        test=None,
    )


@pytest.mark.parametrize(
    ("name", "shapes"),
    [
        ("GunPoint", [(40, 1, 150), (10, 1, 150), (150, 1, 150)]),
        ("BasicMotions", [(32, 6, 100), (8, 6, 100), (40, 6, 100)]),
        ("JapaneseVowels", [(216, 12, 24), (54, 12, 24), (370, 12, 24)]),
    ],
)
def test_real_sets_become_arrays(name, shapes):
    """Uni- and multivariate, of equal and unequal length."""
    length = shapes[0][2]

    prepared = prepare(load(name), **{**SETTINGS, "length": length})

    splits = (prepared.train, prepared.validation, prepared.test)
    assert [split.x.shape for split in splits] == shapes
    assert all(split.x.dtype == np.float32 and split.y.dtype == np.int64 for split in splits)
    assert all(np.isfinite(split.x).all() for split in splits)
    assert (prepared.channels, prepared.length) == shapes[0][1:]
    assert set(prepared.train.y) == set(range(prepared.classes))
    assert len(prepared.fingerprint) == 64


def test_class_names_are_sorted(rng):
    """As numbers or as text; y has their indices."""
    numbers = prepare(_source(["10", "9", "2"] * 4, rng), **SETTINGS)
    words = prepare(_source(["walk", "Run", "2"] * 4, rng), **SETTINGS)

    assert numbers.class_names == ("2", "9", "10")
    assert words.class_names == ("2", "Run", "walk")
    assert Counter(numbers.train.y.tolist()) == {0: 2, 1: 2, 2: 2}


def test_every_series_is_in_exactly_one_split(rng):
    """None is lost or repeated."""
    source = _source("aabbbbaaab" * 3, rng)

    prepared = prepare(source, **{**SETTINGS, "normalization": "none"})

    x = np.concatenate([prepared.train.x, prepared.validation.x, prepared.test.x])
    np.testing.assert_array_equal(
        np.sort(x[:, 0, 0]), np.sort([one[0, 0] for one in source.train.series])
    )


def test_validation_and_test_series_change_nothing_in_preprocessing(rng):
    """No leak: other values and lengths held out, the same length, mean and deviation."""
    labels = "ab" * 10
    lengths = rng.integers(5, 9, size=20).tolist()
    source = _source(labels, rng, lengths)
    test = hold_out(labels, 0.2, [0, 0])
    rest = [i for i in range(20) if i not in test]
    held = test + [rest[i] for i in hold_out([labels[i] for i in rest], 0.2, [0, 1])]
    series = [
        rng.normal(7, 9, (1, 40)) if i in held else s for i, s in enumerate(source.train.series)
    ]
    changed = replace(source, train=replace(source.train, series=series))

    before, after = prepare(source, **SETTINGS), prepare(changed, **SETTINGS)

    assert after.preprocessing == before.preprocessing
    np.testing.assert_array_equal(after.train.x, before.train.x)
    assert not np.array_equal(after.test.x, before.test.x)


def test_training_series_change_preprocessing(rng):
    """The test above can fail."""
    labels = "ab" * 10
    source = _source(labels, rng)
    series = [s + 5 for s in source.train.series]
    changed = replace(source, train=replace(source.train, series=series))

    assert prepare(changed, **SETTINGS).preprocessing != prepare(source, **SETTINGS).preprocessing


def test_own_test_series_are_not_split():
    """Only validation series are drawn from training."""
    source = load("ItalyPowerDemand")
    assert source.test is not None

    prepared = prepare(source, **{**SETTINGS, "normalization": "none"})

    np.testing.assert_array_equal(prepared.test.x, np.stack(source.test.series))
    assert len(prepared.train.y) + len(prepared.validation.y) == len(source.train.labels)


def test_split_is_determined_by_the_seed(rng):
    """Equal settings, equal fingerprint; any other setting changes it."""
    source = _source("ab" * 20, rng)

    first = prepare(source, **SETTINGS)

    assert prepare(source, **SETTINGS).fingerprint == first.fingerprint
    for change in ({"seed": 1}, {"length": 5}, {"normalization": "series"}):
        assert prepare(source, **{**SETTINGS, **change}).fingerprint != first.fingerprint


def test_split_is_stratified():
    """Each class has its share, rounded."""
    labels = ["a"] * 50 + ["b"] * 20 + ["c"] * 3

    held = Counter(labels[i] for i in hold_out(labels, 0.2, [0]))

    assert held == {"a": 10, "b": 4, "c": 1}


def test_class_with_one_series_stays_in_training(rng):
    """The teacher can learn it, though validation lacks it."""
    source = _source(["a"] * 6 + ["b"] * 6 + ["rare"], rng)

    prepared = prepare(source, **SETTINGS)

    assert prepared.class_names == ("a", "b", "rare")
    assert 2 in prepared.train.y
    assert 2 not in np.concatenate([prepared.validation.y, prepared.test.y])


def test_too_few_series_to_split_are_refused(rng):
    """One series for each class."""
    with pytest.raises(DataError, match=r"no class with two series .* held out for test"):
        prepare(_source("abc", rng), **SETTINGS)
    with pytest.raises(DataError, match="held out for validation"):
        prepare(_source("aabb", rng), **SETTINGS)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"validation_fraction": 0.0}, "validation_fraction must lie between 0 and 1, got 0.0"),
        ({"test_fraction": 1.5}, "test_fraction must lie between 0 and 1, got 1.5"),
        ({"seed": -1}, "seed must be 0 or more, got -1"),
        ({"length": 1}, "length must be a whole number of at least 2, got 1"),
        ({"features": "log_mel"}, "log_mel and a sample rate of None do not fit together"),
    ],
)
def test_invalid_settings_are_refused(change, message, rng):
    """The message has the setting and its value."""
    with pytest.raises(ConfigError, match=message):
        prepare(_source("ab" * 5, rng), **{**SETTINGS, **change})


def test_stratified_series_are_drawn_class_by_class(rng):
    """In proportion, the same ones every time, and never more than there are."""
    labels = np.repeat([0, 1], [90, 30])
    split = Split(x=rng.normal(size=(120, 1, 4)).astype(np.float32), y=labels)

    drawn = stratified_series(split, 40, seed=0)

    rows = [int(np.flatnonzero((split.x == one).all(axis=(1, 2)))[0]) for one in drawn]
    assert np.bincount(labels[rows]).tolist() == [30, 10]
    assert len(set(rows)) == 40
    np.testing.assert_array_equal(drawn, stratified_series(split, 40, seed=0))
    np.testing.assert_array_equal(stratified_series(split, 120, seed=0), split.x)
