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


def test_data_without_test_series_need_logits_of_the_training_series_only(x, rows, tmp_path):
    np.savez(tmp_path / "t.npz", train=rows, test=rows[:2], other=rows[:1])
    notes: list[str] = []

    teacher = read_table(tmp_path / "t.npz", train=x, test=None, on_note=notes.append)

    np.testing.assert_array_equal(teacher.logits(x), rows)
    assert notes == ["Of t.npz nothing uses other, test."]


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"logits": 6}, r"holds \['logits'\], but no array 'train'"),
        ({"train": 4}, r"holds \['train'\], but no array 'test'.* of the 2 test series"),
        ({"train": 4, "Test": 2}, r"holds \['Test', 'train'\], but no array 'test'"),
    ],
    ids=["neither", "no test", "other name"],
)
def test_missing_array_is_named(arrays, message, x, rows, tmp_path):
    np.savez(tmp_path / "t.npz", **{name: rows[:count] for name, count in arrays.items()})

    with pytest.raises(ModelError, match=message):
        read_table(tmp_path / "t.npz", train=x[:4], test=x[4:])


@pytest.mark.parametrize(
    ("train", "test", "slip"),
    [
        ((6, 3), (6, 3), r"'test' \(6, 3\); the data have 4 train series and 2 test series. Write"),
        ((3, 3), (2, 3), "before validation series are split off"),
        ((2, 3), (4, 3), "The two arrays seem to be swapped"),
        ((3, 4), (3, 2), "They seem to be transposed"),
        ((4, 3), (2, 4), "one column a class"),
        ((4, 3, 1), (2, 3, 1), r"'train' \(4, 3, 1\)"),
    ],
    ids=["other data", "without validation", "swapped", "transposed", "columns", "axes"],
)
def test_other_shapes_are_refused_with_the_likely_slip(train, test, slip, x, rng, tmp_path):
    path = tmp_path / "t.npz"
    np.savez(path, train=rng.normal(size=train), test=rng.normal(size=test))

    with pytest.raises(ShapeError, match=slip):
        read_table(path, train=x[:4], test=x[4:])


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", ">f4"])
def test_any_precision_is_read(dtype, x, rows, tmp_path):
    np.savez(tmp_path / "t.npz", train=np.asfortranarray(rows.astype(dtype)))

    teacher = read_table(tmp_path / "t.npz", train=x, test=None)

    np.testing.assert_array_equal(teacher.logits(x), rows.astype(dtype).astype("f4"))


@pytest.mark.parametrize("dtype", ["i8", "u1", "?", "U4"])
def test_classes_and_votes_are_no_logits(dtype, x, rows, tmp_path):
    np.savez(tmp_path / "t.npz", train=(rows > 0).astype(dtype))

    with pytest.raises(ModelError, match=r"'train' in .*, no real numbers: classes or votes"):
        read_table(tmp_path / "t.npz", train=x, test=None)


def test_numbers_beyond_float32_are_refused(x, rows, tmp_path):
    np.savez(tmp_path / "t.npz", train=rows.astype("f8") * 1e60)

    with pytest.raises(ModelError, match=r"t\.npz \(train\) gives NaN or infinite"):
        read_table(tmp_path / "t.npz", train=x, test=None)


def softmax(rows):
    shares = np.exp(rows)
    return shares / shares.sum(axis=-1, keepdims=True)


@pytest.mark.parametrize("columns", [1, 3])
def test_logits_beside_probabilities_are_refused(columns, x, rows, tmp_path):
    shares = softmax(rows)[:, :columns]
    np.savez(tmp_path / "t.npz", train=5 * rows[:4, :columns], test=shares[4:])

    with pytest.raises(ModelError, match="logits of the train series and probabilities of the te"):
        read_table(tmp_path / "t.npz", train=x[:4], test=x[4:])


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

    with pytest.raises(ModelError, match=r"Cannot read logits: .*t\.npz"):
        read_table(path, train=x, test=None)


def test_single_array_is_refused(x, tmp_path):
    with (tmp_path / "t.npz").open("wb") as stream:
        np.save(stream, x)

    with pytest.raises(ModelError, match=r"t\.npz is no NPZ of plain arrays"):
        read_table(tmp_path / "t.npz", train=x, test=None)
