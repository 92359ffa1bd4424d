"""Facts of a data set: what was read, what is missing, what no model could tell apart."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
import pytest

from edgedistill.data import RawSeries, Source, load, prepare
from edgedistill.formats.schema import ColumnRole

SETTINGS = {"length": None, "sizing": "resample", "normalization": "series", "seed": 0}
STEPS = 40


def waves(count, rng, channels=1, steps=STEPS):
    """Series (C, T) of a sine of random phase in every channel."""
    phases = rng.uniform(0, 6, size=(count, channels, 1))
    return list(np.sin(np.arange(steps) + phases).astype(np.float32))


def facts_of(series, labels=None, *, normalization="series", **more):
    """Facts of series that are split into 8 of 10 for training, a class as the other."""
    labels = labels or ["a", "b"] * (len(series) // 2)
    train = RawSeries(series=series, labels=labels, origin="toys", **more)
    source = Source(name="toys", train=train, test=None)
    return prepare(source, **{**SETTINGS, "normalization": normalization}).facts


def test_series_are_counted_by_class_and_split(rng):
    """In the order of the logits; the validation and test series are drawn from each class."""
    facts = facts_of(waves(120, rng), ["10"] * 100 + ["9"] * 20)

    assert list(facts.series_per_class) == ["9", "10"]
    assert facts.series_per_class["9"] == {"train": 13, "validation": 3, "test": 4}
    assert facts.series_per_class["10"] == {"train": 64, "validation": 16, "test": 20}


def test_plain_series_have_nothing_to_tell(rng):
    """Equal lengths, nothing missing, nothing flat, nothing lost."""
    facts = facts_of(waves(40, rng))

    assert (facts.shortest, facts.longest) == (STEPS, STEPS)
    assert (facts.missing_share, facts.missing_series) == (0, {})
    assert (facts.flat_series, facts.flat_channels, facts.unresolved_series) == (0, (), 0)
    assert (facts.columns, facts.remarks) == ((), ())


@pytest.mark.parametrize(
    ("test", "named", "origin"),
    [
        (None, False, ("drawn", None)),
        ("sets/toys_TEST.csv", False, ("found", "toys_TEST.csv")),
        ("sets/others.csv", True, ("named", "others.csv")),
    ],
    ids=["drawn", "found", "named"],
)
def test_origin_of_test_series(test, named, origin, rng):
    def read(path):
        labels = ["a", "b"] * 20
        return RawSeries(series=waves(40, rng), labels=labels, origin=path)

    source = Source(
        name="toys",
        train=read("sets/toys_TRAIN.csv"),
        test=None if test is None else read(test),
        is_test_named=named,
    )

    facts = prepare(source, **SETTINGS).facts

    assert (facts.test_origin, facts.test_file) == origin


def test_recorded_lengths_are_those_before_resampling(rng):
    """Of the series of every split."""
    lengths = [20, *[30] * 38, 55]
    facts = facts_of([one[:, :n] for one, n in zip(waves(40, rng, steps=60), lengths, strict=True)])

    assert (facts.shortest, facts.longest) == (20, 55)


def test_missing_values_are_counted_before_they_are_filled_in(rng):
    """By their share of all values, and by the series of each class that have some."""
    series = waves(40, rng)
    series[1][0, 3:7] = np.nan
    series[3][0, 0] = np.nan

    facts = facts_of(series)

    assert facts.missing_share == pytest.approx(5 / (40 * STEPS))
    assert facts.missing_series == {"b": 2}


@pytest.mark.parametrize("normalization", ["series", "train", "none"])
def test_constant_series_are_flat(rng, normalization):
    """However they are normalized; one constant channel of two is not a flat series."""
    series = waves(40, rng, channels=2)
    series[5][:] = 3.5
    series[6][1] = -1

    facts = facts_of(series, normalization=normalization)

    assert (facts.flat_series, facts.flat_channels) == (1, ())


def test_a_channel_that_is_always_constant_is_named(rng):
    """No series is flat, since the other channel varies."""
    series = waves(40, rng, channels=2)
    for level, one in enumerate(series):
        one[1] = level

    facts = facts_of(series)

    assert (facts.flat_series, facts.flat_channels) == (0, (1,))


@pytest.mark.parametrize("kind", ["npz", "csv"])
@pytest.mark.parametrize(("offset", "unresolved"), [(0, 0), (1e4, 0), (1e7, 40), (1e12, 40)])
def test_variation_that_float32_loses_is_noticed(rng, tmp_path, kind, offset, unresolved):
    """A sine at 1e7, where float32 counts in whole numbers; at 1e12 nothing of it is left."""
    x = np.sin(np.arange(STEPS) + rng.uniform(0, 6, size=(40, 1))) + offset
    labels = ["a", "b"] * 20
    path = tmp_path / f"toys.{kind}"
    if kind == "npz":
        np.savez(path, x=x, y=labels)
    else:
        rows = zip(labels, x.tolist(), strict=True)
        path.write_text("\n".join(",".join([label, *map(repr, row)]) for label, row in rows))

    facts = prepare(load(str(path)), **SETTINGS).facts

    assert facts.unresolved_series == unresolved


def test_constant_series_lose_nothing_in_float32(tmp_path):
    """They are flat, whatever their level."""
    x = np.tile(np.sin(np.arange(STEPS)), (40, 1))
    x[0] = 1e12 + 1
    np.savez(tmp_path / "toys.npz", x=x, y=["a", "b"] * 20)

    facts = prepare(load(str(tmp_path / "toys.npz")), **SETTINGS).facts

    assert (facts.flat_series, facts.unresolved_series) == (1, 0)


def test_columns_and_remarks_of_the_reader_are_kept(rng):
    """A remark that several splits share stands once."""
    column = ColumnRole(name="state", role="label", why="data.label")

    facts = facts_of(waves(40, rng), columns=(column,), remarks=("1 and 1.0 are one class.",))

    assert facts.columns == (column,)
    assert facts.remarks == ("1 and 1.0 are one class.",)


def test_a_real_set_of_unequal_lengths():
    """Japanese vowels, as published: 7 to 29 time steps, 270 and 370 series of 9 speakers."""
    facts = prepare(load("JapaneseVowels"), **SETTINGS).facts

    assert (facts.shortest, facts.longest) == (7, 29)
    counts = facts.series_per_class.values()
    assert {row["train"] + row["validation"] for row in counts} == {30}
    assert sum(row["test"] for row in counts) == 370
    assert asdict(facts)["flat_series"] == 0
