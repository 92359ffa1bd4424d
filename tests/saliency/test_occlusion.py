"""Occlusion saliency of a black box: what is known in closed form, and what must be refused."""

from __future__ import annotations

import tracemalloc

import edgedistill_kernels as kernels
import numpy as np
import pytest
from aeon.datasets import load_basic_motions
from scipy.special import softmax
from scipy.stats import entropy

from edgedistill.errors import ConfigError, MachineError, ModelError, ShapeError
from edgedistill.saliency import occlusion
from edgedistill.saliency.classifier import FIRST_BATCH
from edgedistill.saliency.perturbation import PerturbationPlan, baseline_patches


@pytest.fixture(scope="module")
def series():
    """Ten real series, (10, 6, 100), of motions; not centered, so that baselines differ."""
    return load_basic_motions(split="train")[0][::4].astype(np.float32)


@pytest.fixture
def weights(rng):
    """A linear model of four classes, (K, C, T)."""
    return rng.normal(size=(4, 6, 100)).astype(np.float32)


@pytest.fixture
def predict(weights):
    """Its logits."""
    return lambda x: np.einsum("nct,kct->nk", x, weights)


def _plan(**changes):
    return PerturbationPlan(**{"length": 100, "width": 10, "stride": 7, **changes})


def _slow(predict, series, plan, targets):
    """The definition, a window of a series at a time: (N, W) KL and signed maps."""
    patches = baseline_patches(plan, series)
    kl, signed = np.zeros((2, *patches.shape[:2]))
    for n, w in np.ndindex(kl.shape):
        covered = series[n].copy()
        covered[:, plan.starts[w] : plan.starts[w] + plan.width] = patches[n, w]
        before, after = (predict(x[None])[0].astype(np.float64) for x in (series[n], covered))
        p, q = softmax(before / plan.temperature), softmax(after / plan.temperature)
        kl[n, w] = entropy(p, q) * plan.temperature**2
        k = targets[n]
        signed[n, w] = (before[k] - before.mean()) - (after[k] - after.mean())
    return kl, signed


@pytest.mark.parametrize("baseline", ["zero", "mean", "local_mean"])
def test_explain_agrees_with_the_definition(series, predict, baseline):
    """Covering one window at a time and asking for one series at a time gives the same."""
    plan = _plan(baseline=baseline)

    said = occlusion.explain(predict, series, plan)

    kl, signed = _slow(predict, series, plan, said.logits.argmax(axis=1))
    np.testing.assert_allclose(said.logits, predict(series), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(said.kl, kl, rtol=2e-3, atol=2e-3)
    np.testing.assert_allclose(said.signed, signed, rtol=1e-3, atol=1e-3)
    assert said.kl.shape == said.signed.shape == (10, len(plan.starts))
    assert {said.logits.dtype, said.kl.dtype, said.signed.dtype} == {np.dtype(np.float32)}


def test_signed_map_of_a_linear_model_is_known(series, weights, predict):
    """Under a zero baseline a window's score is its own part of the centered logit."""
    plan = _plan(width=10, stride=10, baseline="zero")
    targets = np.arange(10) % 4

    said = occlusion.explain(predict, series, plan, targets=targets)

    centered = weights - weights.mean(axis=0)
    parts = (series * centered[targets]).sum(axis=1)  # (N, T)
    np.testing.assert_allclose(
        said.signed, parts.reshape(10, 10, 10).sum(axis=2), rtol=1e-3, atol=1e-3
    )
    logits = said.logits - said.logits.mean(axis=1, keepdims=True)
    np.testing.assert_allclose(
        said.signed.sum(axis=1), logits[np.arange(10), targets], rtol=1e-3, atol=1e-3
    )


def test_a_shift_of_all_logits_changes_nothing(series, predict):
    """Softmax does not see it, so no map may; even if it depends on the input."""
    plain = occlusion.explain(predict, series, _plan())

    moved = occlusion.explain(
        lambda x: predict(x) + x.mean(axis=(1, 2))[:, None] * 10, series, _plan()
    )

    np.testing.assert_allclose(moved.kl, plain.kl, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(moved.signed, plain.signed, rtol=1e-3, atol=1e-3)
    assert np.abs(plain.signed).max() > 1


def test_divergences_far_below_one_are_not_rounding(series, predict):
    """A model that hardly reacts still has a map: in float32 the terms would cancel to noise."""
    plan = _plan(temperature=100.0)

    said = occlusion.explain(lambda x: predict(x) * np.float32(1e-3), series, plan)

    kl, _ = _slow(lambda x: predict(x) * np.float32(1e-3), series, plan, said.logits.argmax(axis=1))
    assert kl.max() < 1e-2
    np.testing.assert_allclose(said.kl, kl, rtol=1e-2, atol=1e-9)


def test_divergences_are_never_negative(series, predict):
    """Not even where rounding is all there is."""
    said = occlusion.explain(lambda x: predict(x) * np.float32(1e-9), series, _plan())

    assert said.kl.min() == 0


def test_targets_choose_the_class_that_is_explained(series, predict):
    """By default the predicted one; a student is asked about its teacher's."""
    own = occlusion.explain(predict, series, _plan())
    predicted = own.logits.argmax(axis=1)

    same = occlusion.explain(predict, series, _plan(), targets=predicted)
    other = occlusion.explain(predict, series, _plan(), targets=(predicted + 1) % 4)

    np.testing.assert_array_equal(same.signed, own.signed)
    np.testing.assert_array_equal(other.kl, own.kl)
    assert np.abs(other.signed - own.signed).max() > 1


@pytest.mark.parametrize("copies", [1, 7, 14, 33])
def test_batching_changes_nothing(series, predict, copies):
    """Less than a series' windows a call, or several series'; never more than allowed."""
    whole = occlusion.explain(predict, series, _plan())
    sizes = []

    def counted(x):
        sizes.append(len(x))
        return predict(x)

    parts = occlusion.explain(counted, series, _plan(), batch=copies)

    assert max(sizes) <= copies
    assert sum(sizes) == 10 * (1 + len(_plan().starts))
    for name in ("logits", "kl", "signed"):
        np.testing.assert_allclose(getattr(parts, name), getattr(whole, name), rtol=1e-3, atol=1e-3)


def test_usual_calls_hold_whole_series(rng):
    """The calls of a device do not depend on timing: as many whole series as 512 copies hold."""
    many = rng.normal(size=(600, 1, 100)).astype(np.float32)
    sizes = []

    def counted(x):
        sizes.append(len(x))
        return x[:, 0, :2]

    occlusion.explain(counted, many, _plan())

    windows = len(_plan().starts)  # 14
    assert sizes == [512, 88, *[36 * windows] * 16, 24 * windows]


def test_found_batch_gives_the_same(series, predict):
    """Whatever sizes are tried on the way, no answer is asked for twice or left out."""
    sizes = []

    def counted(x):
        sizes.append(len(x))
        return predict(x)

    usual = occlusion.explain(predict, series, _plan(stride=1))
    found = occlusion.explain(counted, series, _plan(stride=1), batch=None)

    assert sum(sizes[1:]) == 10 * len(_plan(stride=1).starts)
    assert sizes[1] == FIRST_BATCH < max(sizes[1:])
    for name in ("logits", "kl", "signed"):
        np.testing.assert_allclose(getattr(found, name), getattr(usual, name), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("batch", [None, 512])
@pytest.mark.parametrize("baseline", ["mean", "zero", "local_mean"])
def test_windows_of_one_series_are_split_where_memory_ends(rng, batch, baseline):
    """1,751 copies of 2 x 2,000 steps are 28 MB; two MB hold a few, and the maps are the same."""
    one = rng.normal(size=(1, 2, 2_000)).astype(np.float32)
    plan = PerturbationPlan(length=2_000, width=250, stride=1, baseline=baseline)
    weights = rng.normal(size=(3, 2, 2_000)).astype(np.float32)
    sizes = []

    def counted(x):
        sizes.append(x.nbytes)
        return np.einsum("nct,kct->nk", x, weights)

    whole = occlusion.explain(counted, one, plan)
    sizes.clear()
    tracemalloc.start()
    parts = occlusion.explain(counted, one, plan, batch=batch, memory_bytes=2 << 20)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert max(sizes) <= 2 << 20
    assert peak < (2 << 20) + (1 << 20)  # the copies, the answers and what is small
    for name in ("logits", "kl", "signed"):
        np.testing.assert_allclose(getattr(parts, name), getattr(whole, name), rtol=1e-4, atol=1e-4)


def test_patches_for_a_model_of_its_own_are_bounded(rng):
    """A model that says itself what windows change is handed no more patches than allowed."""
    one = rng.normal(size=(1, 1, 400)).astype(np.float32)
    plan = PerturbationPlan(length=400, width=200, stride=1)
    sizes = []

    def changes(series, starts, patches):
        sizes.append(patches.nbytes)
        first = patches[..., 0, :2] - series[:, None, 0, :2]
        return np.where((starts == 0)[None, :, None], first, 0).astype(np.float32)

    def ask(**limits):
        return occlusion.explain(lambda x: x[:, 0, :2], one, plan, changes=changes, **limits)

    whole = ask()
    bounded = ask(memory_bytes=40_000)

    assert sizes[0] == 201 * 200 * 4
    assert max(sizes[1:]) <= 40_000
    np.testing.assert_array_equal(bounded.signed, whole.signed)


@pytest.mark.parametrize("own", [False, True])
def test_a_classifier_is_explained_by_its_faster_way(series, predict, own):
    """Where it has one; else every copy is run, with the same maps."""
    copies, windows = [], []

    class Linear:
        def logits(self, x):
            copies.append(len(x))
            return predict(x)

        @property
        def changes(self):
            return follow if own else None

    def follow(part, starts, patches):
        windows.append(len(part) * len(starts))
        whole = np.repeat(part[:, None], len(starts), axis=1)
        for window, start in enumerate(starts):
            whole[:, window, :, start : start + 10] = patches[:, window]
        changed = predict(whole.reshape(-1, *part.shape[1:])).reshape(*whole.shape[:2], -1)
        return changed - predict(part)[:, None]

    found = occlusion.explain_classifier(Linear(), series, _plan())

    expected = occlusion.explain(predict, series, _plan())
    total = len(series) * len(_plan().starts)
    assert sum(windows) == (total if own else 0)
    assert sum(copies) == len(series) + (0 if own else total)
    np.testing.assert_allclose(found.signed, expected.signed, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("own", [False, True])
def test_progress_counts_every_window(series, predict, own):
    """It rises and ends with N x W."""
    heard = []

    def changes(part, starts, patches):
        return np.zeros((len(part), len(starts), 4), dtype=np.float32)

    occlusion.explain(
        predict,
        series,
        _plan(),
        changes=changes if own else None,
        batch=20,
        on_progress=lambda done, total: heard.append((done, total)),
    )

    total = 10 * len(_plan().starts)
    assert heard == [(n * total // 10, total) for n in range(1, 11)]


@pytest.mark.parametrize(
    "error",
    [
        MemoryError("Unable to allocate 1 GiB"),
        RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory"),
        ModelError("ONNX Runtime cannot run it: Failed to allocate memory for a buffer"),
    ],
    ids=["numpy", "cuda", "torch", "onnxruntime"],
)
@pytest.mark.parametrize("batch", [None, 512])
def test_out_of_memory_halves_the_batch_and_goes_on(series, predict, error, batch):
    """Whoever says it; the answers that were there are kept."""
    fitting = []

    def small(x):
        if len(x) > 20:
            raise error
        fitting.append(len(x))
        return predict(x)

    whole = occlusion.explain(predict, series, _plan())
    parts = occlusion.explain(small, series, _plan(), batch=batch)

    assert sum(fitting) == 10 * (1 + len(_plan().starts))
    np.testing.assert_allclose(parts.signed, whole.signed, rtol=1e-3, atol=1e-3)


def test_out_of_memory_on_one_series_is_an_error(series):
    """Nothing is smaller than that."""

    def never(_):
        raise MemoryError("Unable to allocate 9 GiB")

    with pytest.raises(MachineError, match=r"on a single series \(Unable to allocate 9 GiB\)"):
        occlusion.explain(never, series, _plan())


def test_other_errors_of_a_model_are_not_taken_for_memory(series):
    """A broken model is not asked again and again."""
    calls = []

    def broken(x):
        calls.append(len(x))
        raise RuntimeError("shape mismatch")

    with pytest.raises(RuntimeError, match="shape mismatch"):
        occlusion.explain(broken, series, _plan())
    assert calls == [10]


def test_memory_that_holds_no_copy_is_refused(series, predict):
    """Both numbers are named: 6 channels, 100 steps and a patch of 10, 4 bytes each."""
    with pytest.raises(ConfigError, match=r"2000 bytes of memory do not hold one copy, .* 2640"):
        occlusion.explain(predict, series, _plan(), memory_bytes=2_000)
    with pytest.raises(ConfigError, match="batch is 0"):
        occlusion.explain(predict, series, _plan(), batch=0)


def test_time_map_spreads_scores_over_the_steps(rng):
    """A step has the mean of its windows' scores."""
    plan = _plan(length=20, width=6, stride=4)
    scores = rng.normal(size=(3, len(plan.starts))).astype(np.float32)

    spread = occlusion.time_map(scores, plan)

    starts = np.tile(plan.starts, (3, 1))
    expected = kernels.timestep_map(scores, starts, width=6, length=20)
    np.testing.assert_array_equal(spread, expected)
    assert spread.shape == (3, 20)


@pytest.mark.parametrize("shape", [(10,), (10, 4, 1), (9, 4), (10, 1)], ids=str)
def test_logits_of_another_shape_are_refused(series, shape):
    """The message names the shape; one column cannot tell two classes apart."""
    with pytest.raises(ModelError, match=r"array of shape .* for 10 series; logits must be"):
        occlusion.explain(lambda _: np.zeros(shape), series, _plan())


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_logits_that_are_not_finite_are_refused(series, predict, value):
    """Of the series, and of the perturbed copies alone."""

    def broken(x):
        logits = predict(x)
        logits[-1, 0] = value
        return logits

    with pytest.raises(ModelError, match="logits that are not finite"):
        occlusion.explain(broken, series, _plan())
    with pytest.raises(ModelError, match="logits that are not finite"):
        occlusion.explain(lambda x: broken(x) if len(x) > 10 else predict(x), series, _plan())


def test_overflow_of_half_precision_is_refused(series, predict):
    """A model that leaves the range of FP16 gives infinities, which are not compared."""
    with pytest.raises(ModelError, match="for FP16, its range"), np.errstate(over="ignore"):
        occlusion.explain(lambda x: (predict(x) * 1e4).astype(np.float16), series, _plan())


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        (np.zeros(9, dtype=int), "Got 9 targets for 10 series"),
        (np.full(10, 4), "targets run from 4 to 4, the model knows 4 classes"),
        (np.full(10, -1), "targets run from -1 to -1"),
    ],
    ids=["count", "above", "below"],
)
def test_targets_that_do_not_fit_are_refused(series, predict, targets, message):
    """A teacher of other classes cannot say what to explain."""
    with pytest.raises(ShapeError, match=message):
        occlusion.explain(predict, series, _plan(), targets=targets)


def test_series_that_do_not_fit_the_plan_are_refused(series, weights):
    """Another length than the plan's, or none at all."""
    with pytest.raises(ShapeError, match="for a plan of 90 steps"):
        occlusion.explain(lambda x: x[:, :4, 0], series, _plan(length=90))
    with pytest.raises(ShapeError, match="Got no series to explain"):
        occlusion.explain(lambda x: x[:, :4, 0], series[:0], _plan())
