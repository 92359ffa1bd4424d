"""The perturbation plan: the windows, what replaces them, and what is drawn."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgedistill.errors import ConfigError, DataError, ShapeError
from edgedistill.saliency import perturbation
from edgedistill.saliency.perturbation import PerturbationPlan, default_plan, unseen_plan

quick = settings(max_examples=60, deadline=None)


@st.composite
def plans(draw):
    """Any plan that is allowed."""
    length = draw(st.integers(1, 60))
    return PerturbationPlan(
        length=length,
        width=draw(st.integers(1, length)),
        stride=draw(st.integers(1, 80)),
        baseline=draw(st.sampled_from(["mean", "zero", "local_mean"])),
        temperature=draw(st.floats(0.1, 100)),
    )


# The plan


@quick
@given(plans())
def test_windows_lie_on_a_grid_from_the_first_step_to_the_last(plan):
    """Both ends are asked about; no window leaves the series, none comes twice."""
    starts = plan.starts.tolist()

    assert starts[0] == 0
    assert starts[-1] == plan.length - plan.width
    assert starts == sorted(set(starts))
    assert starts[:-1] == [plan.stride * i for i in range(len(starts) - 1)]
    assert len(starts) == 1 or 0 < starts[-1] - starts[-2] <= plan.stride


def test_starts_of_a_plan_by_hand():
    """The grid ends short of the last window, which is added."""
    plan = PerturbationPlan(length=10, width=4, stride=4)

    assert plan.starts.tolist() == [0, 4, 6]


@pytest.mark.parametrize(
    ("length", "width", "stride"), [(96, 6, 3), (24, 2, 1), (2, 2, 1), (500, 31, 15)]
)
def test_default_plan_is_half_overlapping_sixteenths(length, width, stride):
    """At least two steps wide."""
    assert default_plan(length) == PerturbationPlan(length=length, width=width, stride=stride)


def test_default_plan_takes_a_width():
    """The stride follows; one step is allowed if asked for."""
    assert default_plan(30, width=10) == PerturbationPlan(length=30, width=10, stride=5)
    assert default_plan(30, width=1) == PerturbationPlan(length=30, width=1, stride=1)


@quick
@given(plans())
def test_unseen_plan_differs_in_width_and_baseline(plan):
    """As far as the series has room; it is a plan like any other."""
    other = unseen_plan(plan)

    assert other.baseline != plan.baseline
    assert other.width > plan.width or plan.width == plan.length == other.width
    assert (other.length, other.temperature) == (plan.length, plan.temperature)


@quick
@given(plans())
def test_plan_survives_json(plan):
    """It travels in the bundle."""
    assert PerturbationPlan.from_dict(json.loads(json.dumps(plan.to_dict()))) == plan


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"length": 1 << 40}, "A series of 1099511627776 steps is too long"),
        ({"temperature": 10**400}, "temperature above 0 and finite"),
        ({"temperature": np.nan}, "temperature above 0 and finite"),
    ],
    ids=["length", "huge", "NaN"],
)
def test_plan_beyond_any_machine_is_a_config_error(change, message):
    """A forged plan must not take all memory before anything else is looked at."""
    with pytest.raises(ConfigError, match=message):
        PerturbationPlan.from_dict({**default_plan(24).to_dict(), **change})


@pytest.mark.parametrize(
    "change",
    [{"width": None}, {"seed": 1}, {"length": "24"}, {"stride": 1.5}, {"width": True}],
    ids=["missing", "unknown", "text", "half a step", "truth value"],
)
def test_invalid_plan_is_a_config_error(change):
    """The message shows what was given."""
    values = {**default_plan(24).to_dict(), **change}
    values = {key: value for key, value in values.items() if value is not None}

    with pytest.raises(ConfigError, match="is no perturbation plan"):
        PerturbationPlan.from_dict(values)


@pytest.mark.parametrize("width", [0, -1, 25])
def test_window_that_does_not_fit_is_a_data_error(width):
    """The message names both lengths."""
    with pytest.raises(DataError, match=f"window of {width} steps does not fit a series of 24"):
        PerturbationPlan(length=24, width=width, stride=1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"stride": 0}, "stride is 0"),
        ({"temperature": 0.0}, r"temperature 0\.0"),
        ({"temperature": -1.0}, r"temperature -1\.0"),
        ({"temperature": float("nan")}, "temperature nan"),
        ({"temperature": float("inf")}, "temperature inf"),
        ({"baseline": "median"}, "'median'; choose one of mean, zero, local_mean"),
    ],
)
def test_value_that_is_not_allowed_is_a_config_error(change, message):
    """The message names the value."""
    with pytest.raises(ConfigError, match=message):
        dataclasses.replace(default_plan(24), **change)


# What replaces a window


@quick
@given(plans(), st.integers(0, 2**32 - 1))
def test_fill_agrees_with_loops(plan, seed):
    """Each patch is constant over its window, at the baseline's level."""
    series = np.random.default_rng(seed).normal(3, 1, (2, 3, plan.length)).astype(np.float32)

    patches = perturbation.baseline_patches(plan, series)

    assert patches.shape == (2, len(plan.starts), 3, plan.width)
    assert patches.dtype == np.float32
    for n, w, c in np.ndindex(patches.shape[:3]):
        start = int(plan.starts[w])
        around = range(start - plan.width, start + 2 * plan.width)
        level = {
            "zero": 0.0,
            "mean": np.mean([float(v) for v in series[n, c]]),
            "local_mean": np.mean([float(series[n, c, t]) for t in around if 0 <= t < plan.length]),
        }[plan.baseline]
        np.testing.assert_allclose(patches[n, w, c], level, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("shape", [(2, 1, 23), (2, 1, 25), (2, 24), (24,)], ids=str)
def test_fill_refuses_series_of_another_length(shape):
    """The message names the shape and the plan's length."""
    with pytest.raises(ShapeError, match=r"series of shape .* for a plan of 24 steps"):
        perturbation.baseline_patches(default_plan(24), np.zeros(shape, dtype=np.float32))


# Draws


@pytest.mark.parametrize("classes", [2, 5])
def test_donors_are_of_other_classes_and_every_one_is_drawn(rng, classes):
    """Never the own class; over many draws, each opposing series with equal share."""
    labels = rng.integers(classes, size=40)
    bank_labels = np.arange(20) % classes

    donors = perturbation.draw_donors(labels, bank_labels, 500, rng)

    assert donors.shape == (40, 500)
    assert (bank_labels[donors] != labels[:, None]).all()
    for row, label in zip(donors, labels, strict=True):
        opposing = np.flatnonzero(bank_labels != label)
        counts = np.bincount(row, minlength=20)[opposing]
        expected = 500 / len(opposing)
        assert np.abs(counts - expected).max() < 5 * np.sqrt(expected)


def test_donors_need_two_classes(rng):
    """A bank of one class opposes nothing of it."""
    with pytest.raises(DataError, match="Every series has class 1, so none opposes it"):
        perturbation.draw_donors(np.array([0, 1]), np.ones(4, dtype=np.int64), 3, rng)


@quick
@given(st.integers(1, 30), st.integers(1, 12), st.integers(0, 99), st.data())
def test_starts_are_distinct_where_there_is_room(length, windows, seed, data):
    """And inside the series; they repeat only if there are more windows than places."""
    width = data.draw(st.integers(1, length))
    rng = np.random.default_rng(seed)

    starts = perturbation.draw_starts(3, windows, length=length, width=width, rng=rng)

    places = length - width + 1
    assert starts.shape == (3, windows)
    assert starts.min() >= 0
    assert starts.max() < places
    for row in starts:
        assert places < windows or len(set(row.tolist())) == windows


def test_every_start_is_drawn_the_very_last_included(rng):
    """A window that ends with the series is as likely as any other."""
    starts = perturbation.draw_starts(2000, 3, length=10, width=4, rng=rng)

    counts = np.bincount(starts.ravel(), minlength=7)
    assert len(counts) == 7
    assert np.abs(counts - 6000 / 7).max() < 5 * np.sqrt(6000 / 7)


@pytest.mark.parametrize("width", [0, 11])
def test_starts_need_a_window_that_fits(rng, width):
    """The message names both lengths."""
    with pytest.raises(DataError, match=f"window of {width} steps does not fit a series of 10"):
        perturbation.draw_starts(1, 1, length=10, width=width, rng=rng)


def test_draws_depend_on_the_seed_alone():
    """Equal seeds draw alike, other seeds do not."""
    labels, bank_labels = np.arange(6) % 2, np.arange(30) % 3

    def draw(seed):
        rng = np.random.default_rng(seed)
        starts = perturbation.draw_starts(6, 5, length=40, width=4, rng=rng)
        return np.stack([starts, perturbation.draw_donors(labels, bank_labels, 5, rng)])

    np.testing.assert_array_equal(draw(1), draw(1))
    assert (draw(1) != draw(2)).any(axis=(1, 2)).all()


def test_cut_agrees_with_loops(rng):
    """The donor's window comes from the place where it will be written."""
    bank = rng.normal(size=(5, 3, 12)).astype(np.float32)
    donors = rng.integers(5, size=(2, 4))
    starts = rng.integers(0, 9, size=(2, 4))
    starts[0, 0], starts[0, 1] = 0, 8  # both borders

    patches = perturbation.donor_patches(bank, donors, starts, 4)

    assert patches.shape == (2, 4, 3, 4)
    for n, w, c, t in np.ndindex(patches.shape):
        assert patches[n, w, c, t] == bank[donors[n, w], c, starts[n, w] + t]
