"""Unlabeled series beside a labeled set: read, kept out of validation and test, never silent."""

from __future__ import annotations

import numpy as np
import pytest

from edgedistill.errors import DataError, ShapeError
from edgedistill.pipeline.stages.data import prepare_data
from edgedistill.recipe import recipe as config


@pytest.fixture
def files(tmp_path, rng):
    """A labeled file of 20 series, and series of no label."""
    x = rng.normal(size=(20, 1, 30)).astype(np.float32)
    np.savez(tmp_path / "train.npz", x=x, y=np.arange(20) % 2)
    return tmp_path, x, rng.normal(size=(7, 1, 30)).astype(np.float32)


def prepared(folder, unlabeled=None, **data):
    section = {"train": str(folder / "train.npz"), **data}
    if unlabeled is not None:
        np.savez(folder / "more.npz", x=unlabeled)
        section["unlabeled"] = str(folder / "more.npz")
    return prepare_data(config.parse("", file_overrides={"data": section}))


def test_unlabeled_series_are_preprocessed_as_the_others(files):
    """The splits stay; the fingerprint does not, and the count is a remark."""
    folder, _, more = files

    plain, data = prepared(folder), prepared(folder, more)

    assert data.unlabeled is not None
    np.testing.assert_array_equal(data.unlabeled, data.preprocessing.apply(list(more)))
    np.testing.assert_array_equal(data.train.x, plain.train.x)
    assert plain.unlabeled is None
    assert plain.fingerprint != data.fingerprint
    assert "7 unlabeled series are learned from too." in data.facts.remarks


def test_test_series_among_them_are_refused(files):
    """Also where the test series are split off."""
    folder, x, more = files

    with pytest.raises(DataError, match=r"4 of 27 unlabeled series are test series \(the first"):
        prepared(folder, np.concatenate([more, x]))
    np.savez(folder / "test.npz", x=more[:2], y=[0, 1])
    with pytest.raises(DataError, match=r"2 of 7 .*the first is number 1\)"):
        prepared(folder, more, test=str(folder / "test.npz"))


def test_validation_series_among_them_are_left_out(files):
    """A remark has the number."""
    folder, x, more = files
    np.savez(folder / "test.npz", x=more[:2], y=[0, 1])

    data = prepared(folder, x, test=str(folder / "test.npz"))

    assert data.unlabeled is not None
    validation = {one.tobytes() for one in data.validation.x}
    assert len(data.unlabeled) == 20 - len(validation) == 16
    assert not validation & {one.tobytes() for one in data.unlabeled}
    assert "4 unlabeled series are validation series, and are left out." in data.facts.remarks
    raw = prepared(folder, test=str(folder / "test.npz"), normalization="none").validation.x
    with pytest.raises(DataError, match="All unlabeled series are validation series"):
        prepared(folder, raw, test=str(folder / "test.npz"))


def test_schema_of_training_names_the_columns_of_a_table_without_labels(tmp_path, rng):
    """Its label column, where it has one, is no value."""
    rows = rng.normal(size=(12, 5)).round(4)
    names = ",".join(f"t{n}" for n in range(5))
    lines = [f"{','.join(map(str, row))},{'ab'[n % 2]}" for n, row in enumerate(rows)]
    (tmp_path / "train.csv").write_text("\n".join([f"{names},label", *lines]))
    more = rng.normal(size=(3, 5)).round(4)
    (tmp_path / "more.csv").write_text(
        "\n".join([names, *(",".join(map(str, row)) for row in more)])
    )
    section = {"train": str(tmp_path / "train.csv"), "unlabeled": str(tmp_path / "more.csv")}
    section["normalization"] = "none"

    data = prepare_data(config.parse("", file_overrides={"data": section}))

    np.testing.assert_allclose(data.unlabeled[:, 0], more, rtol=1e-6)


def test_files_that_cannot_be_used_are_refused(files):
    """With their names."""
    folder, _, more = files

    with pytest.raises(DataError, match=r"Cannot read .*absent"):
        prepared(folder, unlabeled=None) and prepare_data(
            config.parse(
                "",
                file_overrides={
                    "data": {"train": str(folder / "train.npz"), "unlabeled": "absent.npz"}
                },
            )
        )
    with pytest.raises(ShapeError, match=r"more.npz: x has 2 channels"):
        prepared(folder, np.concatenate([more, more], axis=1))
    more[2] = np.nan
    with pytest.raises(DataError, match=r"more.npz"):
        prepared(folder, more)
