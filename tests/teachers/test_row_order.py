"""Rows of a file of logits in another order than the series."""

from __future__ import annotations

import numpy as np
import pytest

from edgedistill.errors import ModelError
from edgedistill.teachers.row_order import check_row_order, fit_rows


def rows_of(labels, rng, *, right: float, classes: int = 2) -> np.ndarray:
    """Logits that are right for about a share of the labels."""
    wrong = (labels + rng.integers(1, classes, size=len(labels))) % classes
    return np.eye(classes, dtype=np.float32)[
        np.where(rng.random(len(labels)) < right, labels, wrong)
    ]


@pytest.fixture
def labels(rng) -> np.ndarray:
    return rng.integers(0, 2, size=200)


def parts(train, test):
    return {"training": train, "test": test}


def test_variance_is_that_of_rows_in_random_order(rng):
    """Compared with 20,000 orders."""
    labels = rng.choice(3, size=40, p=[0.6, 0.3, 0.1])
    logits = rows_of(labels, rng, right=0.5, classes=3)
    drawn = np.array(
        [(logits.argmax(axis=1)[rng.permutation(40)] == labels).mean() for _ in range(20_000)]
    )

    fit = fit_rows(logits, labels)

    assert fit.chance == pytest.approx(drawn.mean(), abs=2e-3)
    at_one_percent = np.quantile(drawn, 0.99)
    assert fit.is_at_chance == (fit.accuracy <= at_one_percent)
    for right in (0.45, 0.5, 0.55, 0.6, 0.65):
        other = fit_rows(rows_of(labels, rng, right=right, classes=3), labels)
        if abs(other.accuracy - at_one_percent) > 0.06:
            assert other.is_at_chance == (other.accuracy < at_one_percent)


@pytest.mark.parametrize("seed", range(20))
def test_shuffled_test_rows_are_refused(labels, seed):
    """About half of all orders are a little better than chance, which is no proof."""
    rng = np.random.default_rng(seed)
    logits = rows_of(labels, rng, right=0.95)
    fit = fit_rows(logits[rng.permutation(len(labels))], labels)
    if not fit.is_at_chance:  # one order of a hundred
        pytest.skip("an order that is better than chance")

    with pytest.raises(ModelError, match=r"of 200 test series, no more than in random order"):
        check_row_order(
            "t.npz",
            parts((logits, labels), (logits[rng.permutation(len(labels))], labels)),
            ["walk", "run"],
        )


def test_message_has_both_accuracies_and_the_way_out(labels, rng):
    logits = rows_of(labels, rng, right=1.0)

    with pytest.raises(ModelError) as caught:
        check_row_order("t.npz", parts((logits, labels), (logits, np.roll(labels, 1))), ["a", "ä"])

    assert "and in 100.0% of 200 training series. Write one row a series" in str(caught.value)
    assert str(caught.value).endswith('write teacher.class_names: ["a", "ä"].')


def test_shuffled_training_rows_are_refused(labels, rng):
    logits = rows_of(labels, rng, right=0.95)
    shuffled = logits[np.argsort(labels)]

    with pytest.raises(ModelError, match=r"right in .*of 200 training series") as caught:
        check_row_order("t.npz", parts((shuffled, labels), (logits, labels)), "ab", setting=None)

    assert str(caught.value).endswith("in the order of the file of the series.")


@pytest.mark.parametrize(
    ("train", "test", "count"), [(0.95, 0.7, 200), (0.7, 0.65, 200), (1.0, 0.8, 40)], ids=str
)
def test_rightly_ordered_rows_of_a_weak_teacher_pass(train, test, count, labels, rng):
    notes: list[str] = []
    few = labels[:count]

    check_row_order(
        "t.npz",
        parts((rows_of(labels, rng, right=train), labels), (rows_of(few, rng, right=test), few)),
        "ab",
        on_note=notes.append,
    )

    assert notes == []


def test_few_rows_at_chance_are_reported(labels, rng):
    logits, few = rows_of(labels, rng, right=1.0), np.array([0, 1, 0, 1, 0, 1])
    notes: list[str] = []

    check_row_order(
        "t.npz",
        parts((logits, labels), (np.eye(2, dtype="f4")[[0, 1, 0, 1, 1, 0]], few)),
        "ab",
        on_note=notes.append,
    )

    assert len(notes) == 1
    assert notes[0].startswith("The rows of t.npz are right in 66.7% of 6 test series")
    assert notes[0].endswith("too few to be sure. Check the order of the rows.")


def test_rows_of_one_class_alone_are_at_chance(labels):
    assert fit_rows(np.tile(np.float32([1, 0]), (200, 1)), labels).is_at_chance
