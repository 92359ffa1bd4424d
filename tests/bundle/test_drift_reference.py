"""What drift is measured from: a row a series, checked before anybody relies on it."""

from __future__ import annotations

import itertools
from dataclasses import asdict, replace

import numpy as np
import pytest

from edgedistill.bundle import drift_reference as reference
from edgedistill.bundle.drift_reference import (
    DriftLimits,
    Reference,
    load_reference,
    save_reference,
)
from edgedistill.errors import ConfigError, IntegrityError, ShapeError
from edgedistill.saliency.perturbation import default_plan

PLAN = default_plan(24)


@pytest.fixture
def rows(rng):
    """A reference of 30 series of two channels, for three classes."""
    return Reference(
        features=rng.normal(size=(30, 2, 4)).astype(np.float32),
        logits=rng.normal(size=(30, 3)).astype(np.float32),
        signed=rng.normal(size=(30, len(PLAN.starts))).astype(np.float32),
    )


def test_features_match_their_definitions(rng):
    """Of each channel of each series, computed the slow way."""
    series = rng.normal(size=(3, 2, 9)).astype(np.float32)

    found = reference.features(series)

    for n, c in np.ndindex(3, 2):
        values = [float(v) for v in series[n, c]]
        mean = sum(values) / 9
        spread = (sum((v - mean) ** 2 for v in values) / 9) ** 0.5
        steps = [abs(b - a) for a, b in itertools.pairwise(values)]
        expected = (mean, spread, max(map(abs, values)), sum(steps) / 8)
        np.testing.assert_allclose(found[n, c], expected, rtol=1e-5, atol=1e-6)


def test_a_series_of_one_step_has_no_roughness():
    """There is no step to take."""
    assert reference.features(np.ones((1, 1, 1), np.float32))[0, 0].tolist() == [1, 0, 1, 0]


def test_saved_profile_is_loaded(rows, tmp_path):
    """Bit by bit."""
    save_reference(rows, tmp_path / "reference.npz")

    found = load_reference(tmp_path / "reference.npz")

    for name, array in asdict(rows).items():
        np.testing.assert_array_equal(getattr(found, name), array)
    found.check(PLAN, 2, 3)


@pytest.mark.parametrize(
    "arrays",
    [
        {"features": np.zeros((30, 1, 4), np.float32)},
        {name: np.zeros(3, np.float64) for name in ("features", "logits", "signed")},
        {name: np.zeros(3, np.float32) for name in ("features", "logits", "signed", "more")},
    ],
    ids=["too few", "another type", "too many"],
)
def test_other_arrays_are_refused(tmp_path, arrays):
    """A reference of another build, or none."""
    np.savez(tmp_path / "reference.npz", **arrays)

    with pytest.raises(IntegrityError, match="is no reference: it holds"):
        load_reference(tmp_path / "reference.npz")


def test_a_damaged_file_is_refused(tmp_path):
    """It is told as such."""
    (tmp_path / "reference.npz").write_bytes(b"PK\3\4")

    with pytest.raises(IntegrityError, match=r"reference.npz is no reference: .*Make the bundle"):
        load_reference(tmp_path / "reference.npz")


@pytest.mark.parametrize("name", ["features", "logits", "signed"])
def test_arrays_that_do_not_fit_are_refused(rows, name):
    """Each of them, and what is not finite."""
    array = getattr(rows, name)
    for wrong in (array[:, :-1], np.full_like(array, np.nan)):
        with pytest.raises(ShapeError, match=f"{name} of the reference has shape"):
            replace(rows, **{name: wrong}).check(PLAN, 2, 3)


def test_few_series_are_no_reference(rows):
    """They do not say what is usual."""
    few = Reference(**{name: array[:19] for name, array in asdict(rows).items()})

    with pytest.raises(ShapeError, match="for 20 series at least"):
        few.check(PLAN, 2, 3)


def test_limits_survive_a_manifest():
    """As plain values."""
    limits = DriftLimits(false_alarms=0.05, min_maps=7)

    assert DriftLimits.from_dict(asdict(limits)) == limits


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"false_alarms": 0}, "give a share from 0.001 on"),
        ({"min_distance": 1.5}, "a distance between 0 and 1"),
        ({"min_series": 0}, "whole numbers from 1 on"),
        ({"min_maps": True}, r"drift.min_maps is True; give a number"),
        ({"max_map_pearson": "high"}, r"drift.max_map_pearson is 'high'; give a number"),
        ({"max_map_pearson": float("nan")}, "give a number"),
        ({"min_distance": 10**400}, "give a number"),
        ({"colour": 1}, "Drift has no limit colour"),
    ],
)
def test_limits_that_make_no_sense_are_refused(values, told):
    """With the value and what is allowed."""
    with pytest.raises(ConfigError, match=told):
        DriftLimits.from_dict(values)
