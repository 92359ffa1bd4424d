"""Columns in another order are refused with the order that fits; weak teachers are not."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest

from edgedistill.errors import ModelError
from edgedistill.teachers.class_order import check_class_order, fit_order


def logits_of(predicted: np.ndarray, classes: int) -> np.ndarray:
    return np.eye(classes, dtype=np.float32)[predicted]


def predictions(labels: np.ndarray, accuracy: float, classes: int, rng) -> np.ndarray:
    """Predictions that are right in about a share of the series, else any other class."""
    wrong = (labels + rng.integers(1, classes, size=len(labels))) % classes
    return np.where(rng.random(len(labels)) < accuracy, labels, wrong)


@pytest.mark.parametrize("order", list(permutations(range(3))), ids=str)
def test_best_order_is_that_of_a_search_through_all(order, rng):
    labels = rng.integers(0, 3, size=200)
    columns = np.argsort(order)[predictions(labels, 0.8, 3, rng)]

    fit = fit_order(logits_of(columns, 3), labels)

    hits = {o: np.mean(np.array(o)[columns] == labels) for o in permutations(range(3))}
    assert fit.order == max(hits, key=lambda o: hits[o]) == order
    assert fit.best_accuracy == hits[order]
    assert fit.accuracy == hits[0, 1, 2]
    assert fit.is_clear == (order != (0, 1, 2))


def test_message_has_the_setting_to_write(rng):
    labels = np.arange(40) % 2
    with pytest.raises(ModelError) as caught:
        check_class_order("net", logits_of(1 - labels, 2), labels, ["run", "wälk"])

    assert "right in 0.0% of 40 series, and in 100.0% if its columns are wälk, run" in str(
        caught.value
    )
    assert str(caught.value).endswith('Write teacher.class_names: ["wälk", "run"].')


def test_teacher_without_a_setting_is_refused_with_the_remedy():
    labels = np.arange(40) % 2
    with pytest.raises(ModelError, match="in the order of the classes where it is made"):
        check_class_order("net", logits_of(1 - labels, 2), labels, "ab", setting=None)


def test_few_series_are_not_called_sure():
    labels = np.arange(6) % 2
    with pytest.raises(ModelError, match=r"too few to be sure.*If they do.*\[\"b\", \"a\"\]"):
        check_class_order("net", logits_of(1 - labels, 2), labels, "ab")


def test_random_predictions_are_in_no_likely_order():
    """Rows of logits in another order than the series, say: 2 more of 40 show nothing."""
    labels = np.arange(40) % 2
    columns = np.where(np.arange(40) < 19, labels, 1 - labels)

    with pytest.raises(ModelError, match=r"no other order of its columns fits clearly better"):
        check_class_order("net", logits_of(columns, 2), labels, "ab")


@pytest.mark.parametrize("share", [0.5, 0.9])
def test_constant_teacher_is_at_chance_however_frequent_its_class(share):
    labels = (np.arange(100) >= 100 * share).astype(int)
    with pytest.raises(ModelError, match=r"no more than chance \(\d+\.0%\).*take it as it is"):
        check_class_order("net", logits_of(np.zeros(100, dtype=int), 2), labels, "ab")

    check_class_order(
        "net", logits_of(np.zeros(100, dtype=int), 2), labels, "ab", allows_chance=True
    )


def test_one_of_many_classes_swapped_is_found(rng):
    """Accuracy alone, 80 %, would not show it."""
    labels = np.arange(200) % 10
    swapped = np.where(labels == 3, 7, np.where(labels == 7, 3, labels))

    fit = fit_order(logits_of(swapped, 10), labels)

    assert fit.is_clear
    assert fit.order == (0, 1, 2, 7, 4, 5, 6, 3, 8, 9)


def test_two_of_many_classes_swapped_need_few_series():
    """As many tests as there are pairs are shared in, not as many as there are orders."""
    labels = np.arange(100) % 10
    swapped = np.where(labels == 3, 7, np.where(labels == 7, 3, labels))

    assert fit_order(logits_of(swapped, 10), labels).is_clear


def test_likely_order_is_noted_where_series_are_too_few():
    labels, names, notes = np.arange(30) % 10, [str(k) for k in range(10)], []
    swapped = np.where(labels == 3, 7, np.where(labels == 7, 3, labels))

    check_class_order("net", logits_of(swapped, 10), labels, names, on_note=notes.append)

    (note,) = notes
    assert "is right in 80.0% of 30 series, and in 100.0% if its columns are 0, 1, 2, 7, 4" in note
    assert "too few to be sure. If they do, write teacher.class_names" in note


def test_weak_teacher_in_the_right_order_is_not_noted(rng):
    notes: list[str] = []
    for _ in range(100):
        labels = np.arange(60) % 5
        logits = logits_of(predictions(labels, 0.5, 5, rng), 5)
        check_class_order("net", logits, labels, "abcde", on_note=notes.append)

    assert len(notes) <= 5


def test_class_without_series_keeps_its_column():
    labels = np.arange(40) % 2
    assert fit_order(logits_of(labels, 4), labels).order == (0, 1, 2, 3)


@pytest.mark.parametrize(("classes", "accuracy"), [(2, 0.6), (3, 0.45), (10, 0.2)])
def test_weak_but_right_teachers_pass(classes, accuracy, rng):
    """Of 200 that are only somewhat better than chance, on 120 series each."""
    refused = 0
    for _ in range(200):
        labels = np.arange(120) % classes
        fit = fit_order(logits_of(predictions(labels, accuracy, classes, rng), classes), labels)
        assert not fit.is_clear
        refused += fit.is_at_chance

    assert refused <= 6
