"""From a recipe to arrays."""

from __future__ import annotations

import numpy as np
import pytest

from edgedistill.data.checks import data_warnings
from edgedistill.errors import DataError
from edgedistill.pipeline.stages.data import prepare_data, read_source, report_data
from edgedistill.recipe import recipe as config
from edgedistill.report import Data


def prepared(*settings: str):
    return prepare_data(config.parse("data: {train: ItalyPowerDemand}", settings))


def test_the_same_recipe_gives_the_same_arrays():
    first, again = prepared(), prepared()

    assert first.fingerprint == again.fingerprint
    np.testing.assert_array_equal(first.validation.x, again.validation.x)


def test_what_was_read_is_reported_once():
    """To the callback, with warnings and the names that a report has for every fact."""
    reported: list[Data] = []
    recipe = config.parse("data: {train: ItalyPowerDemand, limit_per_class: 15}")

    data = prepare_data(recipe, reported.append)

    assert reported == [report_data(data)]
    assert reported[0].fingerprint == data.fingerprint
    assert reported[0].series_per_class["1"] == {"train": 12, "validation": 3, "test": 15}
    assert reported[0].warnings == data_warnings(data.facts)
    assert len(reported[0].warnings) == 1


def test_every_setting_of_the_section_arrives():
    data = prepared(
        "data.limit_per_class=10",
        "data.length=12",
        "data.sizing=pad",
        "data.normalization=none",
        "data.validation_fraction=0.5",
    )

    assert [len(split.y) for split in (data.train, data.validation, data.test)] == [10, 10, 20]
    assert data.train.x.shape[2] == 12
    assert data.preprocessing.to_dict()["sizing"] == "pad"
    assert data.preprocessing.to_dict()["normalization"] == "none"
    assert prepared("data.max_length=9").train.x.shape[2] == 9


def test_the_seed_decides_which_series_validate():
    first, other = prepared("seed=0"), prepared("seed=1")

    assert not np.array_equal(first.validation.x, other.validation.x)
    np.testing.assert_array_equal(first.test.y, other.test.y)


def test_the_source_is_as_the_files_have_it():
    source = read_source(config.parse("data: {train: ItalyPowerDemand}"))

    assert source.test is not None
    assert (len(source.train.labels), len(source.test.labels)) == (67, 1029)


def test_a_set_that_is_not_there():
    with pytest.raises(DataError, match="Did you mean 'ItalyPowerDemand'"):
        read_source(config.parse("data: {train: ItalyPowrDemand}"))


@pytest.mark.parametrize(
    ("name", "setting", "expected"),
    [
        ("ItalyPowerDemand", "null", "series"),  # one channel
        ("BasicMotions", "null", "train"),  # six, whose levels tell them apart
        ("BasicMotions", "series", "series"),
    ],
)
def test_normalization_suits_the_channels_unless_it_is_set(name, setting, expected):
    recipe = config.parse(f"data: {{train: {name}, normalization: {setting}}}")

    assert prepare_data(recipe).preprocessing.normalization == expected
