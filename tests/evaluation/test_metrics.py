"""The measures: each against SciPy, scikit-learn or a slow loop."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from edgedistill_kernels.reference import _ranks
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats
from scipy.special import softmax
from sklearn.metrics import accuracy_score, log_loss

from edgedistill.errors import ShapeError
from edgedistill.evaluation import metrics

quick = settings(max_examples=50, deadline=None)
tied = hnp.arrays(  # maps of few values, so that many are equal
    np.float64,
    st.tuples(st.integers(1, 4), st.integers(1, 12)),
    elements=st.sampled_from([-2.0, -0.0, 0.0, 0.5, 3.0]),
)


# Predictions


def test_softmax_and_kl_agree_with_scipy(rng):
    """Logits of ordinary and of extreme size."""
    teacher, student = rng.normal(scale=3, size=(2, 8, 5))

    np.testing.assert_allclose(metrics.softmax(teacher), softmax(teacher, axis=1))
    expected = stats.entropy(softmax(teacher, axis=1), softmax(student, axis=1), axis=1)
    np.testing.assert_allclose(metrics.kl_divergence(teacher, student), expected, rtol=1e-9)
    assert np.isfinite(metrics.kl_divergence(teacher * 1e4, student * 1e4)).all()


def test_kl_is_excess_cross_entropy(rng):
    """scikit-learn's log loss on labels that the teacher is certain of."""
    student, labels = rng.normal(size=(30, 4)), np.arange(30) % 4
    teacher = np.eye(4)[labels] * 100

    mean = metrics.kl_divergence(teacher, student).mean()

    assert mean == pytest.approx(log_loss(labels, softmax(student, axis=1)))


def test_kl_takes_the_teacher_first():
    """It is not symmetric: classes that the teacher finds likely count."""
    teacher, student = np.log([[0.9, 0.1]]), np.log([[0.5, 0.5]])

    forward, backward = (
        metrics.kl_divergence(*pair)[0] for pair in ((teacher, student), (student, teacher))
    )

    assert forward == pytest.approx(0.9 * np.log(0.9 / 0.5) + 0.1 * np.log(0.1 / 0.5))
    assert backward == pytest.approx(0.5 * np.log(0.5 / 0.9) + 0.5 * np.log(0.5 / 0.1))


def test_correct_and_agrees_agree_with_scikit_learn(rng):
    """The mean of the hits is the accuracy."""
    teacher, student, labels = *rng.normal(size=(2, 50, 3)), rng.integers(3, size=50)

    hits, agreement = metrics.correct(student, labels), metrics.agrees(teacher, student)

    assert hits.mean() == accuracy_score(labels, student.argmax(1))
    assert agreement.mean() == accuracy_score(teacher.argmax(1), student.argmax(1))
    assert set(hits) == {0.0, 1.0}


def _slow_ece(confidence, hits):
    """Guo et al. 2017, Eq. 3, a bin at a time."""
    error, count = 0.0, len(confidence)
    for index in range(15):
        rows = [
            i
            for i, c in enumerate(confidence)
            if index / 15 <= c < (index + 1) / 15 or (index == 14 and c == 1)
        ]
        if rows:
            accuracy = sum(hits[i] for i in rows) / len(rows)
            error += (
                len(rows) / count * abs(accuracy - sum(confidence[i] for i in rows) / len(rows))
            )
    return error


def test_calibration_error_agrees_with_a_loop(rng):
    """For several resamples at once, a confidence of exactly 1 included."""
    confidence = rng.uniform(0.2, 1, size=(4, 60))
    confidence[:, :5] = 1.0
    hits = (rng.random((4, 60)) < confidence).astype(float)

    errors = metrics.expected_calibration_error(confidence, hits)

    expected = [_slow_ece(c, h) for c, h in zip(confidence, hits, strict=True)]
    np.testing.assert_allclose(errors, expected, rtol=1e-9)


def test_calibration_error_by_hand():
    """Sure and always right: 0. Sure and right half the time: 0.5."""
    sure = np.ones(4)

    assert metrics.expected_calibration_error(sure, np.ones(4)) == 0
    assert metrics.expected_calibration_error(sure, np.array([1.0, 0, 1, 0])) == 0.5


# Maps


@pytest.mark.parametrize("scale", [1e-20, 1.0, 1e20])
@pytest.mark.parametrize("width", [2, 3, 31])
def test_correlations_agree_with_scipy(rng, width, scale):
    """Pearson and Spearman, at any scale of float32 maps."""
    first = (scale * rng.normal(size=(20, width))).astype(np.float32)
    second = (3 + first / scale + rng.normal(size=(20, width))).astype(np.float32)

    pearson, spearman = metrics.pearson(first, second), metrics.spearman(first, second)

    exact = first.astype(np.float64), second.astype(np.float64)
    pairs = list(zip(*exact, strict=True))
    np.testing.assert_allclose(pearson, [stats.pearsonr(*p).statistic for p in pairs], atol=1e-9)
    np.testing.assert_allclose(spearman, [stats.spearmanr(*p).statistic for p in pairs], atol=1e-9)


@quick
@given(tied)
def test_ranks_agree_with_scipy(maps):
    """Equal values share their mean rank."""
    np.testing.assert_array_equal(_ranks(maps), stats.rankdata(maps, axis=1) - 1)


def test_long_maps_are_ranked_in_little_memory(rng):
    """Two hundred maps of 2000 windows, with ties; a comparison of all pairs would take 800 MB."""
    maps = rng.integers(1000, size=(200, 2000)).astype(np.float32)

    tracemalloc.start()
    ranks = _ranks(maps)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    np.testing.assert_array_equal(ranks, stats.rankdata(maps, axis=1) - 1)
    assert peak < 50e6  # bytes


@pytest.mark.parametrize("constant", [0.0, 0.1, -3e8, 1e-30])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_constant_map_correlates_with_nothing(rng, constant, dtype):
    """Not even with itself, and not by the rounding of its mean."""
    flat = np.full((1, 31), constant, dtype=dtype)
    other = rng.normal(size=(1, 31)).astype(dtype)

    for pair in ((flat, other), (other, flat), (flat, flat)):
        assert metrics.pearson(*pair) == 0
        assert metrics.spearman(*pair) == 0


def test_map_with_nan_correlates_with_nothing(rng):
    """A missing number is never agreement."""
    whole = rng.normal(size=(2, 9))
    holed = whole.copy()
    holed[0, 4] = np.nan

    for measure in (metrics.pearson, metrics.spearman, metrics.top_sign_agreement):
        np.testing.assert_allclose(measure(whole, holed)[1], 1)
    assert metrics.pearson(whole, holed)[0] == metrics.spearman(whole, holed)[0] == 0


def test_top_sign_agreement_by_hand():
    """Of 20 windows the 2 strongest count: which they are, and their sign."""
    first = np.zeros((5, 20))
    second = np.zeros((5, 20))
    first[:, 3], first[:, 7] = 5, -4
    first[:, 8] = 1
    second[0, [3, 7]] = 9, -1  # both
    second[1, [3, 7]] = 9, 1  # one with the other sign
    second[2, [3, 9]] = 2, 3  # one elsewhere
    second[3, [8, 9]] = 2, 3  # none
    second[4, [3, 7]] = -5, 4  # the negative

    agreement = metrics.top_sign_agreement(first, second)

    assert agreement.tolist() == [1.0, 0.5, 0.5, 0.0, 0.0]


def test_top_sign_agreement_of_zeros_is_nothing():
    """Two models that react to no window do not agree."""
    assert metrics.top_sign_agreement(np.zeros((1, 20)), np.zeros((1, 20))) == 0


@pytest.mark.parametrize(("width", "count"), [(1, 1), (4, 1), (31, 3), (96, 10)])
def test_top_sign_agreement_takes_a_tenth(rng, width, count):
    """At least one window: against a slow count of the strongest."""
    first, second = rng.normal(size=(2, 6, width))

    agreement = metrics.top_sign_agreement(first, second)

    for row, (a, b) in enumerate(zip(first, second, strict=True)):
        strongest = [
            set(sorted(range(width), key=lambda i, m=m: -abs(m[i]))[:count]) for m in (a, b)
        ]
        shared = strongest[0] & strongest[1]
        assert agreement[row] == sum(a[i] * b[i] > 0 for i in shared) / count


# Intervals


def test_estimate_is_the_percentile_bootstrap(rng):
    """A loop that draws the same rows gives the same interval."""
    values = rng.normal(size=20)

    found = metrics.estimate(lambda rows: np.median(values[rows], axis=1), 20, seed=3)

    rows = np.random.default_rng(3).integers(20, size=(1000, 20))
    medians = sorted(float(np.median(values[row])) for row in rows)
    assert found.value == np.median(values)
    assert (found.low, found.high) == pytest.approx(np.percentile(medians, [2.5, 97.5]))


def test_interval_covers_the_true_mean_in_95_percent(rng):
    """Over 300 samples of 60 the true mean lies inside in 95 of 100 cases, give or take 4."""
    inside = 0
    for seed in range(300):
        found = metrics.estimate_mean(rng.exponential(2.0, size=60), seed=seed)
        inside += found.low <= 2.0 <= found.high

    assert 0.91 <= inside / 300 <= 0.99


def test_interval_shrinks_with_more_samples(rng):
    """And the value lies inside it."""
    few, many = (metrics.estimate_mean(rng.normal(size=n)) for n in (20, 2000))

    assert many.high - many.low < 0.2 * (few.high - few.low)
    assert few.low < few.value < few.high


def test_estimate_depends_on_the_seed_alone(rng):
    """So two runs of a validation print the same interval."""
    values = rng.normal(size=30)

    assert metrics.estimate_mean(values) == metrics.estimate_mean(values)
    assert metrics.estimate_mean(values, seed=1) != metrics.estimate_mean(values)


def test_undefined_resamples_are_left_out(rng):
    """A class can be missing in a resample; if all are undefined, the value stands alone."""
    values = rng.normal(size=30)

    def defined_for_some(rows):
        return np.where(rows[:, 0] % 2, np.nan, values[rows].mean(axis=1))

    some = metrics.estimate(defined_for_some, 30)
    none = metrics.estimate(lambda r: np.where(len(r) > 1, np.nan, np.ones(len(r))), 30)

    assert some.low < some.value < some.high
    assert none == metrics.Estimate(1.0, 1.0, 1.0)


def test_large_sets_are_resampled_in_parts(rng, monkeypatch):
    """The rows drawn at once are bounded; the interval is that of all of them."""
    values, sizes = rng.normal(size=50), []

    def mean(rows):
        sizes.append(rows.size)
        return values[rows].mean(axis=1)

    monkeypatch.setattr(metrics, "_DRAWS_AT_ONCE", 1300)
    parts = metrics.estimate(mean, 50)

    assert max(sizes) <= 1300
    assert sum(sizes) == 50 * 1001
    whole = metrics.estimate_mean(values)
    assert (parts.value, parts.low, parts.high) == pytest.approx(
        (whole.value, whole.low, whole.high), abs=0.05
    )


# Refusals


def test_no_samples_are_refused():
    """There is nothing to estimate."""
    with pytest.raises(ShapeError, match="Got no samples to measure"):
        metrics.estimate_mean(np.array([]))


@pytest.mark.parametrize(
    "measure",
    [
        metrics.correct,
        metrics.agrees,
        metrics.kl_divergence,
        metrics.pearson,
        metrics.spearman,
        metrics.top_sign_agreement,
    ],
)
def test_samples_that_do_not_pair_are_refused(measure):
    """The message names both counts."""
    with pytest.raises(ShapeError, match=r"Got [34] and [34] samples to compare"):
        measure(np.zeros((3, 5)), np.zeros((4, 5)))


@pytest.mark.parametrize(
    "measure",
    [metrics.kl_divergence, metrics.pearson, metrics.spearman, metrics.top_sign_agreement],
)
@pytest.mark.parametrize("width", [1, 4])
def test_maps_of_different_plans_are_refused(measure, width):
    """Also where NumPy would stretch one to the other."""
    with pytest.raises(ShapeError, match=r"shape \(3, 5\) and \(3, \d\) to compare"):
        measure(np.zeros((3, 5)), np.zeros((3, width)))
