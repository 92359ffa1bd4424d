"""Drift on real series: quiet where there is none, and named where there is.

The model is NumPy alone: random filters, rectified and pooled, and a head fitted by ridge
regression. It classifies both sets well enough to have reasons.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np
import pytest
from aeon.datasets import load_gunpoint, load_italy_power_demand

from edgedistill.bundle.drift_reference import DriftLimits, Reference, features
from edgedistill.device.drift.comparison import DRIFT_ASPECTS, compare
from edgedistill.device.drift.profile import Bins, Profile
from edgedistill.saliency.occlusion import Explanation, explain
from edgedistill.saliency.perturbation import PerturbationPlan, default_plan

pytestmark = pytest.mark.slow

NAMES = ("first", "second")
BARE = DriftLimits(min_distance=0.0, max_map_pearson=1.0)  # chance alone decides
FILTERS, WIDTH = 24, 9


class Model:
    """Random filters, rectified, pooled by mean and maximum, and a linear head."""

    def __init__(self, x, labels, rng):
        self.filters = rng.normal(size=(FILTERS, 1, WIDTH))
        pooled = self._pooled(x)
        self.mean, self.scale = pooled.mean(axis=0), pooled.std(axis=0) + 1e-9
        design = self._design(x)
        aims = np.where(labels[:, None] == np.arange(2), 3.0, -3.0)
        gram = design.T @ design + np.eye(design.shape[1])
        self.head = np.linalg.solve(gram, design.T @ aims)

    def __call__(self, x):
        return (self._design(x) @ self.head).astype(np.float32)

    def _pooled(self, x):
        padded = np.pad(x, ((0, 0), (0, 0), (WIDTH // 2, WIDTH // 2)), mode="edge")
        windows = np.lib.stride_tricks.sliding_window_view(padded, WIDTH, axis=2)
        found = np.maximum(np.einsum("nctw,fcw->nft", windows, self.filters), 0)
        return np.concatenate([found.mean(axis=2), found.max(axis=2)], axis=1)

    def _design(self, x):
        scaled = (self._pooled(x) - self.mean) / self.scale
        return np.concatenate([scaled, np.ones((len(x), 1))], axis=1)


@dataclass(frozen=True)
class World:
    """Held-out series, and what a model says of them."""

    model: Model
    plan: PerturbationPlan
    x: np.ndarray
    said: Explanation

    def reference(self, rows):
        """Return the reference that these series make."""
        return Reference(
            features=features(self.x[rows]),
            logits=self.said.logits[rows],
            signed=self.said.signed[rows],
        )

    def profile(self, reference, x=None, *, rows=None, every=1):
        """Return the profile of changed series, or of rows that were explained already."""
        said = self.said if x is None else explain(self.model, x, self.plan)
        x, rows = (self.x, rows) if x is None else (x, range(len(x)))
        found = Profile(Bins.from_reference(reference))
        for count, row in enumerate(rows):
            found.add(x[row], said.logits[row], None if count % every else said.signed[row])
        return found


def _world(load):
    (train, train_labels), (test, test_labels) = load(split="train"), load(split="test")
    names = np.unique(train_labels)
    model = Model(
        _normalized(train), np.searchsorted(names, train_labels), np.random.default_rng(1)
    )
    x = _normalized(test)
    plan = default_plan(x.shape[2])
    said = explain(model, x, plan)
    hits = said.logits.argmax(axis=1) == np.searchsorted(names, test_labels)
    assert hits.mean() > 0.85
    return World(model, plan, x, said)


def _normalized(x):
    centered = x - x.mean(axis=2, keepdims=True)
    return (centered / (x.std(axis=2, keepdims=True) + 1e-9)).astype(np.float32)


@pytest.fixture(scope="module")
def italy():
    """ItalyPowerDemand: 1029 held-out series of 24 steps."""
    return _world(load_italy_power_demand)


@pytest.fixture(scope="module")
def gunpoint():
    """GunPoint: 150 held-out series of 150 steps."""
    return _world(load_gunpoint)


@pytest.fixture(scope="module")
def gun(gunpoint):
    """Half of GunPoint's held-out series as the reference, the other half to be seen."""
    order = np.random.default_rng(2).permutation(150)
    return gunpoint, gunpoint.reference(order[:75]), order[75:]


def _answers(found):
    return {question: found.drifted_in(question) for question in DRIFT_ASPECTS}


@pytest.mark.parametrize(("name", "reference", "seen"), [("italy", 250, 200), ("gunpoint", 75, 75)])
def test_false_alarms_are_as_few_as_promised(request, name, reference, seen):
    """Other held-out series are no drift: in 40 reports, each question is wrong 3 times at most.

    One in a hundred is promised; 4 of 40 would then happen about once in 1,500 tries.
    """
    world, rng = request.getfixturevalue(name), np.random.default_rng(0)
    alarms = dict.fromkeys(DRIFT_ASPECTS, 0)

    for _ in range(40):
        order = rng.permutation(len(world.x))
        known = world.reference(order[:reference])
        profile = world.profile(known, rows=order[reference : reference + seen])
        for question, answer in _answers(compare(profile, known, BARE, NAMES)).items():
            assert answer is not None
            alarms[question] += answer

    assert max(alarms.values()) <= 3


def test_nothing_drifts_on_held_out_series(gun):
    """With the usual limits all three questions are answered, and with no."""
    world, reference, rows = gun

    found = compare(world.profile(reference, rows=rows), reference, DriftLimits(), NAMES)

    assert _answers(found) == dict.fromkeys(DRIFT_ASPECTS, False)
    assert found.drifted is False
    assert found.unjudged == ()


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda x: x + np.float32(0.3), "mean"),
        (lambda x: x * np.float32(1.3), "spread"),
        (
            lambda x: x + np.float32(0.3) * np.resize([1, -1], x.shape).astype(np.float32),
            "roughness",
        ),
    ],
    ids=["shifted", "scaled", "rattling"],
)
def test_changed_inputs_are_found(gun, change, what):
    """And the feature that changed is named."""
    world, reference, rows = gun

    found = compare(
        world.profile(reference, change(world.x[rows])), reference, DriftLimits(), NAMES
    )

    assert found.drifted_in("inputs") is True
    assert what in {test.what for test in found.tests if test.drifted}


def test_another_mix_of_classes_is_found(gun):
    """Class rates drift; the reasons for either class are what they were."""
    world, reference, rows = gun
    predicted = world.said.logits[rows].argmax(axis=1)
    mixed = np.concatenate([rows[predicted == 0], rows[predicted == 0], rows[predicted == 1][:20]])

    found = compare(world.profile(reference, rows=mixed), reference, DriftLimits(), NAMES)

    assert found.drifted_in("predictions") is True
    (rates,) = [test for test in found.tests if test.what == "class rates"]
    assert rates.drifted
    assert rates.detail.startswith(("first: ", "second: "))
    assert found.drifted_in("reasons") is False


def test_drift_of_saliency_alone_is_found(gun):
    """A recorder that triggers later: the same shapes and classes, decided by other steps.

    Mean, spread, peak and the classes stay, so whoever watches inputs and predictions sees nothing.
    """
    world, reference, rows = gun
    later = np.roll(world.x[rows], 18, axis=2)

    found = compare(world.profile(reference, later), reference, DriftLimits(), NAMES)

    assert _answers(found) == {"inputs": False, "predictions": False, "reasons": True}


def test_noise_in_the_strongest_window_moves_saliency_most(italy):
    """The same noise moves reasons further in the strongest window than in the weakest."""
    rng = np.random.default_rng(3)
    order = rng.permutation(len(italy.x))
    reference, rows = italy.reference(order[:400]), order[400:600]
    strength = np.abs(italy.said.signed[rows]).mean(axis=0)
    apart = {}

    for place in ("strongest", "weakest"):
        window = int(strength.argmax() if place == "strongest" else strength.argmin())
        start = int(italy.plan.starts[window])
        x = italy.x[rows].copy()
        steps = slice(start, start + italy.plan.width)
        x[:, :, steps] += rng.normal(size=x[:, :, steps].shape).astype(np.float32)
        found = compare(italy.profile(reference, x), reference, DriftLimits(), NAMES)
        apart[place] = max(t.distance for t in found.tests if t.what.startswith("single maps"))

    assert apart["strongest"] > 1.2 * apart["weakest"]


def test_few_series_are_not_judged(gun):
    """Neither yes nor no; it is said how many are needed."""
    world, reference, rows = gun

    found = compare(world.profile(reference, rows=rows[:30]), reference, DriftLimits(), NAMES)

    assert _answers(found) == dict.fromkeys(DRIFT_ASPECTS)
    assert found.drifted is False
    assert found.unjudged[0] == "inputs and predictions: 30 series, 50 are needed"
    assert "reasons for first" in found.unjudged[1]


def test_maps_may_be_rare(gun):
    """Inputs and predictions are judged by all series, reasons by those with a map."""
    world, reference, rows = gun

    found = compare(world.profile(reference, rows=rows, every=5), reference, DriftLimits(), NAMES)

    assert (found.series, found.explained) == (75, 15)
    assert _answers(found) == {"inputs": False, "predictions": False, "reasons": None}


def test_a_report_is_the_same_twice_and_plain(gun):
    """What chance shows is drawn with a fixed seed; all of it is JSON."""
    world, reference, rows = gun
    profile = world.profile(reference, rows=rows)

    first, second = (compare(profile, reference, DriftLimits(), NAMES) for _ in range(2))

    assert first == second
    values = json.loads(json.dumps(first.to_dict(), allow_nan=False))
    assert values["drifted"] == {"inputs": False, "predictions": False, "reasons": False}
    assert values["series"] == 75
    assert {test["question"] for test in values["tests"]} == set(DRIFT_ASPECTS)


def test_what_is_too_small_to_matter_is_no_drift(gun):
    """However sure it is: a limit is at least the bundle's own."""
    world, reference, rows = gun
    shifted = world.profile(reference, world.x[rows] * np.float32(1.3))

    found = compare(shifted, reference, DriftLimits(min_distance=1.0, max_map_pearson=-1.0), NAMES)

    assert found.drifted is False
    assert all(test.limit >= 1.0 for test in found.tests)
