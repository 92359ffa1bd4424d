"""A profile counts what a slow loop would count, adds up, and belongs to one reference."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from edgedistill.bundle.drift_reference import FEATURES, Reference, features
from edgedistill.device.drift import profile
from edgedistill.device.drift.profile import BINS, Bins, Profile, load
from edgedistill.errors import DataError, MachineError, UsageError

SERIES, CLASSES, WINDOWS = 80, 3, 7


@pytest.fixture
def world(rng):
    """Series of two channels, and a reference of them."""
    x = rng.normal(size=(SERIES, 2, 16)).astype(np.float32)
    reference = Reference(
        features=features(x),
        logits=rng.normal(size=(SERIES, CLASSES)).astype(np.float32),
        signed=rng.normal(size=(SERIES, WINDOWS)).astype(np.float32),
    )
    return x, reference


def _filled(world, rows):
    x, reference = world
    found = Profile(Bins.from_reference(reference))
    for row in rows:
        signed = reference.signed[row] if row % 2 else None
        found.add(x[row], reference.logits[row], signed)
    return found


def test_counts_are_those_of_a_slow_loop(world):
    """Class rates, bins of the inputs, sums of the maps."""
    x, reference = world
    found = _filled(world, range(SERIES))

    predicted = [int(row.argmax()) for row in reference.logits]
    assert found.series == SERIES
    assert found.classes.tolist() == [predicted.count(k) for k in range(CLASSES)]
    odd = [row for row in range(SERIES) if row % 2]
    assert found.explained.tolist() == [sum(predicted[r] == k for r in odd) for k in range(CLASSES)]
    for k in range(CLASSES):
        own = [reference.signed[row].astype(float) for row in odd if predicted[row] == k]
        np.testing.assert_allclose(found.map_sums[k], sum(own))
        np.testing.assert_allclose(found.map_squares[k], sum(each**2 for each in own))
    bins = Bins.from_reference(reference)
    for column, values in enumerate(features(x).reshape(SERIES, -1).T.astype(float)):
        for index in range(BINS):
            low = -math.inf if index == 0 else bins.inputs[column, index - 1]
            high = math.inf if index == BINS - 1 else bins.inputs[column, index]
            assert found.inputs[column, index] == sum(low < v <= high for v in values)


def test_bins_hold_a_tenth_of_the_reference_each(world):
    """Quantiles, so that every bin tells as much."""
    found = _filled(world, range(SERIES))

    assert (found.inputs == SERIES // BINS).all()
    assert (found.confidence == SERIES // BINS).all()


@pytest.mark.parametrize("size", [1.0, 1e-6, 1e6])
def test_what_is_constant_does_not_leave_its_bin_by_rounding(world, size):
    """The mean of normalized series is zero, but for the last digits; a shift is seen.

    What is small is small beside the channel's own values, whatever their unit.
    """
    x = world[0] - world[0].mean(axis=2, keepdims=True)
    x = (size * x / x.std(axis=2, keepdims=True)).astype(np.float32)
    found = Profile(Bins.from_reference(replace(world[1], features=features(x))))

    for series in x:
        found.add(series, world[1].logits[0])
    steady = found.inputs.reshape(2, len(FEATURES), BINS).copy()
    found.add(x[0] + np.float32(0.1 * size), world[1].logits[0])

    mean, spread, peak, _ = FEATURES
    assert (mean, spread, peak) == ("mean", "spread", "peak")
    assert (steady[:, :2].max(axis=2) == SERIES).all()
    assert (steady[:, 2].max(axis=1) == SERIES // BINS).all()
    assert (found.inputs.reshape(2, len(FEATURES), BINS)[:, 0, -1] == 1).all()


def test_confidence_is_the_log_odds_of_the_top_class(rng):
    """Also where its probability is 1 for float32."""
    logits = rng.normal(size=(20, 4)) * 5
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    top = shares.max(axis=1)

    np.testing.assert_allclose(profile.confidence(logits), np.log(top / (1 - top)))
    assert profile.confidence(np.array([[100.0, 0.0]]))[0] == pytest.approx(100)


def test_correlations_are_those_of_numpy(rng):
    """A constant map says nothing: 0."""
    maps = rng.normal(size=(5, WINDOWS))
    mean = rng.normal(size=WINDOWS)

    found = profile.correlations(np.concatenate([maps, np.ones((1, WINDOWS))]), mean)

    expected = [np.corrcoef(each, mean)[0, 1] for each in maps]
    np.testing.assert_allclose(found, [*expected, 0.0])


def test_map_is_compared_with_the_mean_of_the_others(rng):
    """Not against a mean that it is part of, which would flatter it."""
    maps = rng.normal(size=(6, WINDOWS))

    found = profile.closeness_within(maps)

    expected = [
        np.corrcoef(maps[i], np.delete(maps, i, axis=0).mean(axis=0))[0, 1] for i in range(6)
    ]
    np.testing.assert_allclose(found, expected)


def test_profiles_add_up(world):
    """Two halves, in any order, are the whole."""
    whole = _filled(world, range(SERIES))
    first, second = _filled(world, range(30)), _filled(world, range(30, SERIES))

    first.merge(second)

    for name, array in whole.arrays().items():
        np.testing.assert_allclose(first.arrays()[name], array)


def test_saved_profile_is_loaded(world, tmp_path):
    """And can be added to."""
    found = _filled(world, range(40))

    found.save(tmp_path / "profile.npz")
    again = load(tmp_path / "profile.npz", found.bins)
    again.add(world[0][0], world[1].logits[0])

    assert again.series == 41
    np.testing.assert_array_equal(again.map_sums, found.map_sums)


def test_a_profile_never_grows(world, tmp_path):
    """Ten times the series take the same room."""
    small, large = _filled(world, range(8)), _filled(world, list(range(SERIES)) * 2)

    small.save(tmp_path / "small.npz")
    large.save(tmp_path / "large.npz")

    sizes = {path.stat().st_size for path in tmp_path.iterdir()}
    assert len(sizes) == 1


def test_another_bundles_profile_is_refused(world, tmp_path):
    """Its bins mean something else."""
    mine = _filled(world, range(10))
    other = replace(world[1], logits=world[1].logits + np.float32(1))
    mine.save(tmp_path / "mine.npz")

    with pytest.raises(UsageError, match="kept with another bundle"):
        load(tmp_path / "mine.npz", Bins.from_reference(other))
    with pytest.raises(UsageError, match="belong to different bundles"):
        mine.merge(Profile(Bins.from_reference(other)))


def _change(path, **changes):
    with np.load(path) as found:
        arrays = {**found, **changes}
    np.savez(path, **{name: array for name, array in arrays.items() if array is not None})


@pytest.mark.parametrize(
    "changes",
    [
        {"classes": np.zeros(CLASSES + 1, np.int64)},
        {"classes": np.array([-1, 0, 0])},
        {"map_sums": np.full((CLASSES, WINDOWS), np.nan)},
        {"map_squares": np.full((CLASSES, WINDOWS), -1.0)},
        {"confidence": np.zeros((1, BINS), np.float32)},
        {"closeness": None},
        {"more": np.zeros(1)},
        {"reference": np.zeros(32)},
    ],
    ids=["shape", "negative", "nan", "square", "type", "missing", "unknown", "mark"],
)
def test_what_is_no_profile_is_refused(world, tmp_path, changes):
    """Before anything of it is counted."""
    found = _filled(world, range(10))
    found.save(tmp_path / "profile.npz")
    _change(tmp_path / "profile.npz", **changes)

    with pytest.raises(DataError, match="is no profile of these classes and windows"):
        load(tmp_path / "profile.npz", found.bins)


@pytest.mark.parametrize("name", ["classes", "inputs", "confidence", "explained", "closeness"])
def test_counts_that_contradict_each_other_are_refused(world, tmp_path, name):
    """One series more in one of them than in the others."""
    found = _filled(world, range(10))
    found.save(tmp_path / "profile.npz")
    array = found.arrays()[name].copy()
    array.flat[0] += 1
    _change(tmp_path / "profile.npz", **{name: array})

    with pytest.raises(DataError, match=r"profile.npz contradict each other"):
        load(tmp_path / "profile.npz", found.bins)


def test_a_damaged_file_is_refused(world, tmp_path):
    """Cut anywhere."""
    found = _filled(world, range(10))
    found.save(tmp_path / "profile.npz")
    content = (tmp_path / "profile.npz").read_bytes()
    (tmp_path / "profile.npz").write_bytes(content[: len(content) // 2])

    with pytest.raises(DataError, match="is no profile"):
        load(tmp_path / "profile.npz", found.bins)


def test_a_full_disk_leaves_the_old_profile(world, full_disk):
    """Whole or not at all."""
    found = _filled(world, range(10))

    with pytest.raises(MachineError, match="disk is full"):
        found.save(full_disk / "profile.npz")

    assert not (full_disk / "profile.npz").exists()
