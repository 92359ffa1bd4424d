"""Means, intervals, ranks and tests equal those of SciPy."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from edgedistill.errors import DataError
from edgedistill.experiment import statistics as comparing
from edgedistill.experiment.results import Row
from edgedistill.experiment.statistics import compare, estimates, holm


def table(scores, metric="accuracy"):
    """Return rows of scores, (sets, methods, seeds)."""
    return [
        Row(f"set {s}", f"method {m}", seed, None, {metric: float(scores[s, m, seed])})
        for s, m, seed in np.ndindex(scores.shape)
    ]


def test_interval_equals_scipy(rng):
    values = rng.normal(size=4)

    result = comparing.estimate(values.tolist())

    expected = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert (result.low, result.high) == pytest.approx((expected.low, expected.high))
    assert result.value == pytest.approx(values.mean())


@pytest.mark.parametrize(
    ("metric", "low", "high"),
    [("accuracy", 0, 1), ("kl", 0, np.inf), ("saliency_pearson", -1, 1), ("unseen_p10", -1, 1)],
)
def test_interval_is_clipped_to_the_bounds_of_the_measure(metric, low, high):
    free = comparing.estimate([0.01, 0.99])

    result = estimates(table(np.array([[[0.01, 0.99]]]), metric), metric)["set 0", "method 0"]

    assert free.low < -1
    assert (result.low, result.high) == (low, min(high, free.high))


def test_one_seed_has_no_interval():
    result = comparing.estimate([0.5])

    assert (result.low, result.value, result.high) == (0.5, 0.5, 0.5)


@pytest.mark.parametrize("metric", ["accuracy", "kl"])
def test_ranks_and_tests_equal_scipy(rng, metric):
    scores = rng.random((9, 3, 2)) + np.array([0.0, 0.1, 0.4])[:, None]

    result = compare(table(scores, metric), metric)

    means = scores.mean(axis=2)
    better = means if metric == "kl" else -means
    np.testing.assert_allclose(result.scores, means)
    np.testing.assert_allclose(result.ranks, stats.rankdata(better, axis=1).mean(axis=0))
    assert result.friedman_p == pytest.approx(stats.friedmanchisquare(*means.T).pvalue)
    first = result.pairs[0]
    assert first.p == pytest.approx(stats.wilcoxon(means[:, 0], means[:, 1]).pvalue)
    assert (first.wins, first.losses) == (
        (better[:, 0] < better[:, 1]).sum(),
        (better[:, 0] > better[:, 1]).sum(),
    )


def test_holm_equals_its_definition(rng):
    p = rng.random(6) / 4

    result = holm(p.tolist())

    order = sorted(range(6), key=lambda i: p[i])
    slow, largest = {}, 0.0
    for place, i in enumerate(order):
        largest = max(largest, min(1.0, (6 - place) * p[i]))
        slow[i] = largest
    assert result == pytest.approx([slow[i] for i in range(6)])


def test_note_on_too_few_sets_has_the_smallest_p(rng):
    """The required number is the first at which the smallest p is small enough."""
    few = compare(table(rng.random((4, 3, 1))), "accuracy")
    enough = compare(table(rng.random((7, 3, 1))), "accuracy")

    assert "4 sets are too few" in few.notes[0]
    assert "At least 7 sets are needed for 3 methods" in few.notes[0]
    assert not enough.notes
    assert 3 * stats.wilcoxon(np.arange(1, 8)).pvalue < comparing.ALPHA
    assert 3 * stats.wilcoxon(np.arange(1, 7)).pvalue > comparing.ALPHA


@pytest.mark.parametrize(("methods", "note"), [(1, "One method"), (2, "Two methods")])
def test_note_on_few_methods(rng, methods, note):
    result = compare(table(rng.random((12, methods, 1))), "accuracy")

    assert result.friedman_p is None
    assert note in result.notes[-1]


def test_equal_methods_have_p_of_one():
    result = compare(table(np.full((8, 3, 2), 0.5)), "accuracy")

    assert result.friedman_p is None
    assert {pair.p for pair in result.pairs} == {1.0}


def test_a_set_without_a_method_is_left_out(rng):
    rows = table(rng.random((3, 2, 2)))
    rows = [r if (r.set, r.method) != ("set 1", "method 0") else failed(r) for r in rows]

    result = compare(rows, "accuracy")

    assert (result.sets, result.left_out) == (("set 0", "set 2"), ("set 1",))
    assert ("set 1", "method 0") not in estimates(rows, "accuracy")
    assert ("set 1", "method 1") in estimates(rows, "accuracy")


def failed(row: Row) -> Row:
    return Row(row.set, row.method, row.seed, "it failed", {})


def test_nothing_to_compare_is_refused(rng):
    rows = table(rng.random((1, 2, 1)))

    with pytest.raises(DataError, match="There is no measure 'speed'"):
        compare(rows, "speed")
    with pytest.raises(DataError, match="No set has kl of every method"):
        compare(rows, "kl")
