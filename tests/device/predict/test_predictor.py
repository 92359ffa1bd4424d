"""A prediction is what the pipeline's parts give one after the other."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from aeon.datasets import load_italy_power_demand

from edgedistill.bundle.reader import Bundle, open_bundle
from edgedistill.device.predict.inputs import Item
from edgedistill.device.predict.predictor import Predictor, SlidingWindows
from edgedistill.device.runtime import start
from edgedistill.errors import DataError, ModelError, ShapeError, UsageError
from edgedistill.preprocessing.transforms import Preprocessing
from edgedistill.saliency import occlusion


@pytest.fixture
def bundle(italy) -> Iterator[Bundle]:
    """The bundle, opened."""
    with open_bundle(italy) as opened:
        yield opened


@pytest.fixture(scope="module")
def recorded() -> np.ndarray:
    """Series as they were recorded, (N, 1, 24)."""
    return load_italy_power_demand(split="test")[0][:6]


class _Constant:
    """A runtime that says the same of every series."""

    name, can_explain, changes = "constant", True, None

    def __init__(self, *logits: float) -> None:
        self.classes = len(logits)
        self.row = np.array([logits], dtype=np.float32)

    def logits(self, series: np.ndarray) -> np.ndarray:
        return np.repeat(self.row, len(series), axis=0)

    def describe(self) -> dict[str, str]:
        return {}


def test_recorded_series_are_preprocessed(bundle, recorded):
    """The same as preprocessing, the model and a softmax by hand."""
    runtime = start(bundle.model())
    predictor = Predictor(bundle, runtime)

    found = [predictor.predict(one) for one in recorded]

    logits = runtime.logits(bundle.preprocessing.apply(recorded)).astype(np.float64)
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose([one.probabilities for one in found], shares, rtol=1e-5)
    assert [one.index for one in found] == logits.argmax(axis=1).tolist()
    assert all(one.signed is None for one in found)


def test_preprocessed_series_are_taken_as_they_are(bundle, world):
    """The golden series are such; what the student recorded of them comes out."""
    predictor = Predictor(bundle, start(bundle.model()), preprocessed=True)

    found = [predictor.predict(one).index for one in world.golden.series]

    assert found == world.golden.student.logits.argmax(axis=1).tolist()


def test_saliency_is_that_of_the_predicted_class(bundle, recorded):
    """As occlusion explains it under the bundle's plan."""
    runtime = start(bundle.model())
    predictor = Predictor(bundle, runtime, saliency=True)

    found = predictor.predict(recorded[0])

    x = bundle.preprocessing.apply(recorded[:1])
    expected = occlusion.explain(runtime.logits, x, bundle.plan).signed[0]
    np.testing.assert_allclose(found.signed, expected, rtol=1e-5, atol=1e-6)


def test_a_missing_value_is_filled_in(bundle, recorded):
    """As preprocessing does it; the class of a nearly whole series stays."""
    predictor = Predictor(bundle, start(bundle.model()))
    gap = recorded[0].copy()
    gap[0, 5] = np.nan

    assert predictor.predict(gap).index == predictor.predict(recorded[0]).index


@pytest.mark.parametrize(
    ("series", "preprocessed", "error", "told"),
    [
        (np.full((1, 24), np.nan), False, DataError, "only NaN"),
        (np.full((1, 24), np.inf), False, DataError, "float32 cannot hold"),
        (np.zeros((1, 1)), False, ShapeError, "1 time steps"),
        (np.zeros((1, 23)), True, ShapeError, r"\(1, 23\); preprocessed ones have \(1, 24\)"),
        (np.full((1, 24), np.nan), True, DataError, "missing or infinite"),
    ],
    ids=["nan", "infinite", "short", "length", "preprocessed nan"],
)
def test_series_that_cannot_be_used(bundle, series, preprocessed, error, told):
    """Each has its reason, raised for who asks and told to who streams."""
    predictor = Predictor(bundle, start(bundle.model()), preprocessed=preprocessed)

    with pytest.raises(error, match=told):
        predictor.predict(series)
    answer = predictor.predict_item(Item(place={"line": 1}, series=series))

    assert answer.prediction is None
    assert answer.error


def test_unreadable_item_keeps_its_error(bundle):
    """The model is not asked."""
    answer = Predictor(bundle, _Constant()).predict_item(Item(place={"line": 1}, error="not JSON"))

    assert (answer.prediction, answer.error) == (None, "not JSON")


@pytest.mark.parametrize("logits", [(1, 2, 3), (np.nan, 0), (np.inf, 0)], ids=str)
@pytest.mark.parametrize("saliency", [False, True])
def test_a_model_that_fails(bundle, logits, saliency):
    """Other classes than the bundle's, or no finite logits: no class is made of them."""
    predictor = Predictor(bundle, _Constant(*logits), saliency=saliency)

    with pytest.raises(ModelError, match=r"finite"):
        predictor.predict(np.arange(24.0)[None])


def test_service_of_a_model_that_fails_with_every_series_ends(bundle):
    """One that fails with a single series goes on; none is asked that did not fail."""
    model = _Constant(np.nan, 0)
    predictor = Predictor(bundle, model)
    predictor.check()

    assert "finite" in predictor.predict_item(Item(place={}, series=np.arange(24.0)[None])).error
    with pytest.raises(ModelError, match="finite"):
        predictor.check()

    predictor.predict_item(Item(place={}, series=np.arange(24.0)[None]))
    model.row = np.array([[1, 0]], dtype=np.float32)
    predictor.check()


def test_probabilities_of_far_logits(bundle):
    """No overflow, and they add up to 1."""
    found = Predictor(bundle, _Constant(9e4, -9e4)).predict(np.arange(24.0)[None])

    np.testing.assert_array_equal(found.probabilities, [1, 0])


def test_observer_gets_input_logits_and_maps(bundle, recorded):
    """The input as the model saw it, the logits, and a map with every second one."""
    heard = []
    predictor = Predictor(
        bundle,
        start(bundle.model()),
        observer=lambda *facts: heard.append(facts),
        observe_every=2,
    )

    shown = [predictor.predict(one).signed for one in recorded[:4]]

    x = bundle.preprocessing.apply(recorded[:4])
    np.testing.assert_array_equal([series for series, _, _ in heard], x)
    assert [logits.shape for _, logits, _ in heard] == [(2,)] * 4
    assert [signed is not None for _, _, signed in heard] == [True, False, True, False]
    assert shown == [None] * 4, "nobody asked for maps"


def test_warm_up_is_not_observed(bundle):
    """The observer does not hear of it."""
    heard = []
    predictor = Predictor(
        bundle, start(bundle.model()), saliency=True, observer=lambda *facts: heard.append(facts)
    )

    predictor.warm_up()

    assert heard == []


def test_default_windows_have_the_models_length(bundle):
    """A window has the steps that the model takes, the next one begins where it ends."""
    windows = Predictor(bundle, _Constant(0, 1)).windows(None, None)

    found = [windows.push(np.zeros(1)) for _ in range(48)]

    assert [first for first, _ in filter(None, found)] == [0, 24]


def test_windows_of_a_sound_need_a_length(world, tmp_path):
    """Frames are not samples, and how many samples a window has nobody else knows."""
    sound = Preprocessing(length=24, channels=1, features="log_mel", sample_rate_hz=8000)
    path = world.write(tmp_path / "sound", preprocessing=sound)

    with open_bundle(path) as opened:
        predictor = Predictor(opened, _Constant(0, 1))
        with pytest.raises(UsageError, match="--window"):
            predictor.windows(None, None)
        assert predictor.windows(2000, None).push(np.zeros(1)) is None


@pytest.mark.parametrize(("length", "hop"), [(5, 5), (5, 2), (5, 1), (3, 7), (1, 1), (40, 3)])
def test_windows_are_slices(length, hop, rng):
    """For every hop, also one beyond the window; and what is left over is counted."""
    steps = rng.normal(size=(31, 2))
    windows = SlidingWindows(2, length, hop)

    found = [window for step in steps if (window := windows.push(step)) is not None]

    starts = list(range(0, 31 - length + 1, hop))
    assert [first for first, _ in found] == starts
    for first, values in found:
        np.testing.assert_array_equal(values, steps[first : first + length].T)
    assert windows.count == 31
    assert windows.left_over == (31 - (starts[-1] + length) if starts else 31)


def test_a_missing_step_keeps_its_place():
    """It is NaN in every channel."""
    windows = SlidingWindows(2, 2, 1)
    windows.push(np.array([1.0, 2.0]))

    first, values = windows.push(None)

    assert first == 0
    np.testing.assert_array_equal(values, [[1, np.nan], [2, np.nan]])


def test_memory_is_one_window():
    """However long the stream is, no more steps are held than a window has."""
    windows = SlidingWindows(1, 4, 100)

    for _ in range(1_000):
        windows.push(np.zeros(1))

    assert len(windows._steps) == 4


@pytest.mark.parametrize(
    ("channels", "length", "hop", "told"),
    [(1, 0, 1, "at least 1"), (1, 4, 0, "at least 1"), (4, 1 << 20, 1, "too large")],
)
def test_impossible_windows(channels, length, hop, told):
    """They are refused before the first step."""
    with pytest.raises(UsageError, match=told):
        SlidingWindows(channels, length, hop)
