"""Files of logits as teachers."""

from __future__ import annotations

import numpy as np
import pytest

from edgedistill.errors import DataError, ModelError, ShapeError
from edgedistill.teachers import TableClassifier
from edgedistill.teachers.table import read_table


@pytest.fixture
def x(rng) -> np.ndarray:
    return rng.normal(size=(6, 1, 9)).astype(np.float32)


@pytest.fixture
def rows(rng) -> np.ndarray:
    return rng.normal(size=(6, 3)).astype(np.float32)


def test_series_are_found_in_any_order(x, rows):
    order = [4, 0, 0, 5]

    teacher = TableClassifier(x, rows)

    np.testing.assert_array_equal(teacher.logits(x[order]), rows[order])
    assert teacher.classes == 3
    assert not teacher.can_explain


def test_first_of_equal_series_counts(x, rows):
    teacher = TableClassifier(np.concatenate([x, x]), np.concatenate([rows, -rows]))

    np.testing.assert_array_equal(teacher.logits(x), rows)


def test_perturbed_series_have_no_logits(x, rows):
    perturbed = x.copy()
    perturbed[:2, 0, 3] = 0

    with pytest.raises(DataError, match=r"no logits for 2 of 6 series.*never for perturbed ones"):
        TableClassifier(x, rows).logits(perturbed)


def test_one_row_a_series_is_needed(x, rows):
    with pytest.raises(ShapeError, match=r"logits of shape \(5, 3\) for 6 series"):
        TableClassifier(x, rows[:5])


def test_rows_must_be_finite(x, rows):
    rows[2, 1] = np.inf

    with pytest.raises(ModelError, match="NaN or infinite logits for 1 of 6 series"):
        TableClassifier(x, rows)


def test_file_has_logits_of_training_and_test_series(x, rows, tmp_path):
    np.savez(tmp_path / "t.npz", train=rows[:4], test=rows[4:])

    teacher = read_table(tmp_path / "t.npz", train=x[:4], test=x[4:])

    np.testing.assert_array_equal(teacher.logits(x), rows)
    assert teacher.name == "t.npz"


def test_file_may_have_logits_of_the_training_series_only(x, rows, tmp_path):
    np.savez(tmp_path / "t.npz", train=rows[:4])

    teacher = read_table(tmp_path / "t.npz", train=x[:4], test=x[4:])

    np.testing.assert_array_equal(teacher.logits(x[:4]), rows[:4])
    with pytest.raises(DataError, match="no logits for 2 of 2"):
        teacher.logits(x[4:])


def test_file_without_training_logits_is_refused(x, rows, tmp_path):
    np.savez(tmp_path / "t.npz", logits=rows)

    with pytest.raises(ModelError, match=r"holds \['logits'\], but no array 'train'"):
        read_table(tmp_path / "t.npz", train=x, test=None)


def test_file_of_other_data_is_refused(x, rows, tmp_path):
    np.savez(tmp_path / "t.npz", train=rows, test=rows)

    with pytest.raises(ShapeError, match=r"'test' in .* has shape \(6, 3\); the data have 2 test"):
        read_table(tmp_path / "t.npz", train=x, test=x[:2])


@pytest.mark.parametrize("damage", ["pickled", "truncated", "flipped"])
def test_unreadable_file_is_named(damage, x, tmp_path):
    path = tmp_path / "t.npz"
    np.savez(path, train=np.array([{}], dtype=object) if damage == "pickled" else x[:, 0])
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[:100])
    if damage == "flipped":
        content = bytearray(path.read_bytes())
        content[200] ^= 0xFF
        path.write_bytes(content)

    with pytest.raises(ModelError, match=r"Cannot read logits from .*t\.npz"):
        read_table(path, train=x, test=None)


def test_single_array_is_refused(x, tmp_path):
    with (tmp_path / "t.npz").open("wb") as stream:
        np.save(stream, x)

    with pytest.raises(ModelError, match=r"t\.npz is a single array, no NPZ"):
        read_table(tmp_path / "t.npz", train=x, test=None)
