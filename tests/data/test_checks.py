"""Warnings about a data set: each where it belongs, none where it does not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from edgedistill.data.checks import data_warnings, homogeneity_p
from edgedistill.data.facts import DataFacts

BALANCED = {
    "a": {"train": 64, "validation": 16, "test": 20},
    "b": {"train": 64, "validation": 16, "test": 20},
}
PLAIN = DataFacts(
    series_per_class=BALANCED,
    shortest=40,
    longest=40,
    missing_share=0.0,
    missing_series={},
    flat_series=0,
    flat_channels=(),
    unresolved_series=0,
    test_origin="drawn",
    test_file=None,
    columns=(),
    remarks=(),
)


def warned(a=None, b=None, **facts):
    """Warnings of balanced data with other counts of classes (training, validation, test)."""
    splits = ("train", "validation", "test")
    counts = {
        name: dict(zip(splits, row, strict=True)) if row else BALANCED[name]
        for name, row in (("a", a), ("b", b))
    }
    return data_warnings(replace(PLAIN, series_per_class=counts, **facts))


def test_balanced_data_are_not_warned_about():
    """Of unequal lengths either: that is told, and no fault."""
    assert warned() == ()
    assert warned(shortest=7, longest=4_000) == ()


@pytest.mark.parametrize(
    ("b", "split"), [((20, 0, 20), "validation"), ((20, 16, 0), "test")], ids=str
)
def test_a_class_that_a_split_lacks(b, split):
    """Nothing measured there is about that class."""
    (message,) = [text for text in warned(b=b) if "has no series" in text]

    assert message.startswith(f"The {split} split has no series of 'b': nothing measured there")
    assert f"data.{split}_fraction" in message


def test_four_series_are_too_few_to_judge_a_class():
    """A coin gets 4 of 4 right in 6 % of all cases, 5 of 5 in 3 %."""
    assert 0.5**4 > 0.05 > 0.5**5
    few = warned(a=(64, 5, 5), b=(64, 4, 5))

    assert warned(a=(64, 5, 5), b=(64, 5, 5)) == ()
    assert len(few) == 1
    assert few[0].startswith("The validation split has fewer than 5 series of 'b' (4): too few")


def test_many_classes_are_not_all_listed():
    """Five, and the number of the others."""
    counts = {f"c{k}": {"train": 4, "validation": 1, "test": 5} for k in range(10)}

    (message,) = data_warnings(replace(PLAIN, series_per_class=counts))

    assert "'c0' (1), 'c1' (1), 'c2' (1), 'c3' (1), 'c4' (1) and 5 more: too few" in message


def test_imbalance_of_ten_to_one():
    """The message has both counts, and what a model gets that never predicts the small class."""
    (message,) = warned(a=(320, 80, 100), b=(32, 8, 10))

    assert message.startswith(
        "Classes are imbalanced, 10 to 1: training has 320 series of 'a' and 32 of 'b'. "
        "A model that never predicts 'b' is right on 90.9 % of them."
    )
    assert warned(a=(319, 80, 100), b=(32, 8, 10)) == ()


def test_other_classes_in_test_than_in_training():
    """Half of the training series, four of five test series; the message has both."""
    (message,) = warned(a=(64, 16, 32), b=(64, 16, 8))

    assert "(chi-squared test, p = 0.00063): 'a' is 50.0 % of the training" in message
    assert "80.0 % of the test series" in message


def test_a_difference_that_chance_explains_is_no_warning():
    """Three of five test series instead of half of 40."""
    assert warned(a=(64, 16, 24), b=(64, 16, 16)) == ()


def test_gaps_of_one_class_alone():
    """A model could learn that a value is missing."""
    (message,) = warned(missing_series={"b": 20}, missing_share=0.01)

    assert message.startswith(
        "Values are missing in 20.0 % of the series of 'b', but in 0.0 % of those of 'a' "
        "(chi-squared test, p = 2.4e-06)"
    )


@pytest.mark.parametrize("gaps", [{"a": 20, "b": 22}, {"b": 3}], ids=str)
def test_gaps_of_all_classes_or_few_gaps_are_no_warning(gaps):
    """They are told as facts."""
    assert warned(missing_series=gaps, missing_share=0.01) == ()


@pytest.mark.parametrize(
    ("facts", "start"),
    [
        ({"flat_series": 1}, "1 series is constant in every channel once normalized"),
        ({"flat_series": 1_200}, "1,200 series are constant in every channel once normalized"),
        (
            {"flat_channels": (1, 4)},
            "Constant in every training series once normalized: channel 1, 4",
        ),
        ({"unresolved_series": 3}, "3 series are too far from zero for float32"),
    ],
    ids=str,
)
def test_series_without_variation(facts, start):
    """One warning each, with the next step."""
    (message,) = warned(**facts)

    assert message.startswith(start)
    assert "data.normalization=train" in message or "Subtract the offset" in message


def test_p_value_is_that_of_the_chi_squared_test_where_counts_are_large():
    """Without a continuity correction, as for any number of classes."""
    table = np.array([[50, 30, 20], [30, 30, 40]])

    assert homogeneity_p(table) == stats.chi2_contingency(table, correction=False).pvalue


@pytest.mark.parametrize("table", [[[10, 2], [3, 9]], [[1, 320], [1, 80]], [[0, 12], [4, 5]]])
def test_p_value_of_small_counts_is_near_fishers_exact_one(table):
    """Drawn tables with the same margins stand in for the chi-squared distribution."""
    exact = stats.fisher_exact(table).pvalue

    assert homogeneity_p(np.array(table)) == pytest.approx(exact, abs=0.02)


def test_an_empty_row_has_no_distribution():
    """No series with gaps, or none without: nothing differs."""
    assert homogeneity_p(np.array([[0, 0], [50, 50]])) == 1.0
