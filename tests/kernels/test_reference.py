"""The reference kernels: each against an independent loop or SciPy."""

from __future__ import annotations

import edgedistill_kernels as kernels
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import rel_entr, softmax
from scipy.stats import entropy

quick = settings(max_examples=30, deadline=None)
shapes = st.tuples(*(st.integers(1, most) for most in (4, 5, 4)))  # N, W, K
seeds = st.integers(0, 2**32 - 1)


def _logits(seed, shape, scale=3.0):
    rng = np.random.default_rng(seed)
    samples, windows, classes = shape
    clean = rng.normal(scale=scale, size=(samples, classes))
    return clean, rng.normal(scale=scale, size=(samples, windows, classes))


# perturb


@quick
@given(st.integers(1, 3), st.integers(1, 3), st.integers(1, 9), st.data())
def test_perturb_writes_the_patch_and_nothing_else(samples, channels, length, data):
    """Step by step, the value is the patch's inside the window and the series' outside."""
    width = data.draw(st.integers(1, length))
    rng = np.random.default_rng(data.draw(seeds))
    starts = rng.integers(0, length - width + 1, size=(samples, 4))
    starts[:, 0], starts[:, 1] = 0, length - width  # both borders
    series = rng.normal(size=(samples, channels, length)).astype(np.float32)
    patches = rng.normal(size=(samples, 4, channels, width)).astype(np.float32)
    before = series.copy()

    copies = kernels.perturb(series, starts, patches)

    assert copies.shape == (samples, 4, channels, length)
    assert copies.dtype == np.float32
    for n, w, c, t in np.ndindex(copies.shape):
        offset = t - starts[n, w]
        inside = 0 <= offset < width
        assert copies[n, w, c, t] == (patches[n, w, c, offset] if inside else series[n, c, t])
    np.testing.assert_array_equal(series, before)


@pytest.mark.parametrize(
    ("series", "starts", "patches"),
    [
        ((2, 1, 8), (3, 4), (3, 4, 1, 2)),  # another N
        ((2, 1, 8), (2, 4), (2, 3, 1, 2)),  # another W
        ((2, 1, 8), (2, 4), (2, 4, 2, 2)),  # another C
        ((2, 8), (2, 4), (2, 4, 1, 2)),  # a missing axis
        ((2, 1, 8), (2,), (2, 4, 1, 2)),
        ((2, 1, 8), (2, 4), (2, 4, 2)),
    ],
    ids=str,
)
def test_perturb_refuses_shapes_that_do_not_fit(series, starts, patches):
    """The message names all three."""
    arrays = np.zeros(series), np.zeros(starts, dtype=int), np.zeros(patches)

    with pytest.raises(ValueError, match=r"series .* starts .* patches .* do not fit"):
        kernels.perturb(*arrays)


@pytest.mark.parametrize("start", [-1, 7])
def test_windows_that_leave_the_series_are_refused(start):
    """NumPy would wrap the first around and cut the second short."""
    starts = np.array([[0, start]])

    with pytest.raises(ValueError, match=r"Windows of 2 steps from .* leave a series of 8 steps"):
        kernels.perturb(np.zeros((1, 1, 8)), starts, np.zeros((1, 2, 1, 2)))
    with pytest.raises(ValueError, match=r"Windows of 2 steps from .* leave a series of 8 steps"):
        kernels.timestep_map(np.zeros((1, 2)), starts, width=2, length=8)


# window_saliency


@quick
@given(shapes, seeds, st.sampled_from([0.5, 1.0, 8.0]))
def test_window_saliency_is_scipys_divergence(shape, seed, temperature):
    """Each window's score is the KL of two softmaxes, times the temperature squared."""
    clean, perturbed = _logits(seed, shape)

    scores = kernels.window_saliency(clean, perturbed, temperature=temperature)

    p, q = softmax(clean / temperature, axis=-1), softmax(perturbed / temperature, axis=-1)
    expected = entropy(np.broadcast_to(p[:, None], q.shape), q, axis=-1) * temperature**2
    np.testing.assert_allclose(scores, expected, rtol=1e-9, atol=1e-12)
    assert scores.min() >= -1e-12


@quick
@given(shapes, seeds)
def test_elementwise_terms_sum_to_the_divergence(shape, seed):
    """The two forms hold the same numbers."""
    clean, perturbed = _logits(seed, shape)

    terms = kernels.window_saliency(clean, perturbed, temperature=8.0, form="elementwise")
    total = kernels.window_saliency(clean, perturbed, temperature=8.0)

    np.testing.assert_allclose(terms.sum(axis=-1), total, rtol=1e-9, atol=1e-12)


def test_elementwise_terms_are_those_of_the_sum_and_can_be_negative():
    """A class that gains has a negative term; SciPy's p log(p / q) is the definition."""
    clean, perturbed = _logits(1, (3, 4, 5))

    terms = kernels.window_saliency(clean, perturbed, form="elementwise")

    p, q = softmax(clean, axis=-1)[:, None], softmax(perturbed, axis=-1)
    np.testing.assert_allclose(terms, rel_entr(p, q), rtol=1e-9, atol=1e-12)
    assert terms.min() < 0 < terms.max()


def test_window_saliency_sees_only_differences_of_logits():
    """A shift common to all classes changes nothing, and logits of any size stay finite."""
    clean, perturbed = _logits(2, (2, 3, 4))

    moved = kernels.window_saliency(clean + 5, perturbed - 1e3)
    huge = kernels.window_saliency(clean * 1e4, perturbed * 1e4)

    np.testing.assert_allclose(moved, kernels.window_saliency(clean, perturbed), rtol=1e-9)
    assert np.isfinite(huge).all()


def test_window_saliency_of_no_change_is_zero():
    """A window that is covered without effect explains nothing."""
    clean, _ = _logits(3, (2, 3, 4))

    scores = kernels.window_saliency(clean, np.repeat(clean[:, None], 3, axis=1))

    np.testing.assert_array_equal(scores, np.zeros((2, 3)))


@pytest.mark.parametrize(
    ("clean", "perturbed"), [((1, 3), (2, 4, 3)), ((2, 1), (2, 4, 3)), ((2, 3), (2, 3))], ids=str
)
def test_window_saliency_refuses_shapes_that_do_not_fit(clean, perturbed):
    """NumPy would broadcast the first two in silence."""
    with pytest.raises(ValueError, match=r"clean .* and perturbed .* do not fit"):
        kernels.window_saliency(np.zeros(clean), np.zeros(perturbed))


# normalize


@quick
@given(shapes, seeds)
def test_normalize_divides_by_the_mean_of_the_positive_entries(shape, seed):
    """One number for the whole batch, whatever its shape."""
    _, scores = _logits(seed, shape)
    positive = [value for value in scores.ravel() if value > 0]

    scaled = kernels.normalize(scores)

    mean = sum(positive) / len(positive) if positive else 0.0
    np.testing.assert_allclose(scaled, scores / (mean + 1e-8), rtol=1e-9)


def test_normalized_positive_entries_have_mean_one_at_any_scale(rng):
    """So the scores of a sure teacher and an unsure student can be compared."""
    scores = rng.normal(size=(4, 7))

    for scale in (1e-3, 1.0, 1e3):
        scaled = kernels.normalize(scale * scores)
        assert scaled[scaled > 0].mean() == pytest.approx(1, rel=1e-4)


def test_normalize_of_zeros_is_zero():
    """No positive entry, no division by nothing; the type is kept."""
    scaled = kernels.normalize(np.zeros((2, 3), dtype=np.float32))

    np.testing.assert_array_equal(scaled, np.zeros((2, 3)))
    assert scaled.dtype == np.float32


# timestep_map


@quick
@given(st.integers(1, 3), st.integers(1, 6), st.integers(1, 12), st.data())
def test_timestep_map_is_the_mean_of_the_windows_that_cover(samples, windows, length, data):
    """Step by step; where no window reaches, 0."""
    width = data.draw(st.integers(1, length))
    rng = np.random.default_rng(data.draw(seeds))
    starts = rng.integers(0, length - width + 1, size=(samples, windows))
    scores = rng.normal(size=(samples, windows))

    spread = kernels.timestep_map(scores, starts, width=width, length=length)

    assert spread.shape == (samples, length)
    for n, t in np.ndindex(spread.shape):
        covering = [
            scores[n, w] for w in range(windows) if starts[n, w] <= t < starts[n, w] + width
        ]
        expected = np.mean(covering) if covering else 0.0
        assert spread[n, t] == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("starts", [(2, 2), (3, 3), (3,)], ids=str)
def test_timestep_map_refuses_shapes_that_do_not_fit(starts):
    """A start belongs to a score."""
    with pytest.raises(ValueError, match=r"scores \(2, 3\) and starts .* do not fit"):
        kernels.timestep_map(np.zeros((2, 3)), np.zeros(starts, dtype=int), width=1, length=4)
