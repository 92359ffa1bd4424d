"""Series in memory as data sets: what is written is what was given."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from edgedistill.api.datasets import Dataset, load, to_dataset
from edgedistill.errors import ConfigError, DataError, ShapeError, UsageError
from edgedistill.pipeline.stages.data import read_source, read_unlabeled
from edgedistill.recipe import recipe as config


def read(data, folder):
    """Return the source of what a data set wrote."""
    return read_source(config.parse("", file_overrides={"data": data.write(folder)}))


@pytest.fixture
def x(rng):
    return rng.normal(size=(12, 2, 30)).astype(np.float32)


Y = np.arange(12) % 3


@pytest.mark.parametrize(
    "convert",
    [np.asarray, torch.from_numpy, list, lambda x: x.tolist()],
    ids=["array", "tensor", "arrays", "numbers"],
)
def test_arrays_tensors_and_lists_give_the_same_series(x, tmp_path, convert):
    source = read(Dataset(convert(x), Y, test=(convert(x[:3]), Y[:3])), tmp_path)

    np.testing.assert_array_equal(np.stack(source.train.series), x)
    assert source.train.labels == [str(label) for label in Y]
    assert source.test is not None
    np.testing.assert_array_equal(np.stack(source.test.series), x[:3])


def test_class_names_name_the_numbers_of_the_labels(x, tmp_path):
    data = Dataset(x, torch.from_numpy(Y), class_names=["c", "a", "b"])

    assert read(data, tmp_path).train.labels == [["c", "a", "b"][label] for label in Y]


def test_series_of_unequal_lengths_keep_them(x, tmp_path):
    parts = [one[:, : 10 + n] for n, one in enumerate(x)]

    source = read(Dataset(parts, Y), tmp_path)

    for got, given in zip(source.train.series, parts, strict=True):
        np.testing.assert_array_equal(got, given)


def test_wide_frame_is_read_as_a_table(x, tmp_path):
    frame = pd.DataFrame(x[:, 0], columns=[f"t{n}" for n in range(30)]).assign(kind=Y)

    source = read(Dataset(frame, "kind", test=frame[:4], ignore=[]), tmp_path)

    np.testing.assert_allclose(np.stack(source.train.series)[:, 0], x[:, 0], rtol=1e-6)
    assert source.train.labels == [str(label) for label in Y]
    assert source.test is not None
    assert len(source.test.labels) == 4


def test_long_frame_is_read_as_a_table(x, tmp_path):
    rows = [
        {"id": n, "time": t, "label": Y[n], "a": x[n, 0, t], "b": x[n, 1, t]}
        for n in range(12)
        for t in range(30)
    ]

    source = read(Dataset(pd.DataFrame(rows)), tmp_path)

    np.testing.assert_allclose(np.stack(source.train.series), x, rtol=1e-6)


def test_files_of_an_earlier_set_do_not_stay(x, tmp_path):
    """A test file of the same name would be taken for this set's."""
    Dataset(x, Y, test=(x, Y)).write(tmp_path)

    section = Dataset(x, Y).write(tmp_path)

    assert "test" not in section
    assert [path.name for path in tmp_path.iterdir()] == ["data_TRAIN.npz"]


def test_sets_describe_themselves(x):
    """In words, and escaped as HTML."""
    data = Dataset(x, Y, test=(x, Y), class_names=["<b>", "run", "rest"], name="steps")

    assert repr(data) == (
        "Dataset 'steps': 12 series of 2 channels and 30 steps, <b> 4, rest 4, run 4, test 12"
    )
    assert "<td>&lt;b&gt;</td><td>4</td>" in data._repr_html_()
    frame = pd.DataFrame({"a": [1]})
    assert repr(Dataset(frame)) == "Dataset 'data': 1 rows and 1 columns"


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"y": None}, UsageError, "no labels"),
        ({"y": Y[:3]}, ShapeError, "12 series, but y 3 labels"),
        ({"x": np.zeros(12)}, ShapeError, "not \\(N, C, T\\)"),
        ({"x": [np.zeros((1, 5)), np.zeros((2, 4))], "y": [0, 1]}, ShapeError, "same number"),
        ({"x": np.full((12, 5), "a")}, DataError, "not numbers"),
        ({"class_names": ["a", "b"]}, DataError, "the numbers 0 to 1 only"),
        ({"name": "a/b"}, UsageError, "name is"),
        ({"test": np.zeros((3, 2, 30))}, UsageError, "give \\(x, y\\)"),
    ],
)
def test_what_cannot_be_a_set_is_refused(x, arguments, error, message):
    given = {"x": x, "y": Y, **arguments}

    with pytest.raises(error, match=message):
        Dataset(given.pop("x"), given.pop("y"), **given)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"y": [1, 2]}, "name of a column"),
        ({"class_names": ["a", "b"]}, "labels in a column"),
        ({"test": (1, 2)}, "as one, too"),
    ],
)
def test_frames_with_what_arrays_have_are_refused(arguments, message):
    with pytest.raises(UsageError, match=message):
        Dataset(pd.DataFrame({"t0": [1.0], "label": [1]}), **arguments)


def test_named_sets_are_opened_where_they_are(tmp_path):
    """Nothing is copied, and what is wrong shows at once."""
    data = load("ItalyPowerDemand", limit_per_class=3)

    assert data.write(tmp_path / "none") == {"train": "ItalyPowerDemand", "limit_per_class": 3}
    assert not (tmp_path / "none").exists()
    assert to_dataset(data) is data
    with pytest.raises(DataError, match="absent"):
        load("absent.csv")
    with pytest.raises(ConfigError, match="lenght"):
        load("ItalyPowerDemand", lenght=3)


def test_unlabeled_series_are_written_beside_the_others(x, tmp_path):
    """Of arrays and of frames."""
    frame = pd.DataFrame(x[:, 0], columns=[f"t{n}" for n in range(30)])

    arrays = Dataset(x, Y, unlabeled=x[:5])
    frames = Dataset(frame.assign(label=Y), unlabeled=frame[:5], name="frames")

    assert repr(arrays).endswith("unlabeled 5")
    for data, name in ((arrays, "data_UNLABELED.npz"), (frames, "frames_UNLABELED.csv")):
        recipe = config.parse("", file_overrides={"data": data.write(tmp_path)})
        assert recipe.data.unlabeled == str(tmp_path / name)
        assert len(read_unlabeled(recipe, read_source(recipe))) == 5
    with pytest.raises(UsageError, match="as one, too"):
        Dataset(frame, unlabeled=x)
