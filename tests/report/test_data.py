"""Facts of the data in words, also where an earlier version wrote fewer."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edgedistill.report import Data, from_json, html, markdown, to_json
from edgedistill.report.data import class_rows, data_lines, data_messages, data_rows


@pytest.fixture
def data(full_report) -> Data:
    return full_report.data


@pytest.fixture
def earlier(data) -> Data:
    """Data of a report that was written before anything was counted."""
    names = ("name", "classes", "class_names", "train", "validation", "test", "length", "channels")
    return Data(**{name: getattr(data, name) for name in (*names, "fingerprint")})


def test_rows_have_every_fact(data):
    """In words, with counts and units."""
    assert data_rows(data) == [
        ("Data", "GunPoint"),
        ("Series", "40 training, 10 validation, 150 test"),
        ("Shape", "1 channel, 150 time steps"),
        ("Classes", "2: gun, point"),
        ("Columns", "values: t0 to t149; label: motion (data.label)"),
        ("Test series", "others.csv, named as the test data"),
        ("Recorded lengths", "120 to 150 time steps"),
        ("Missing values", "1.3 % of all values, in 3 series"),
        ("Flat once normalized", "none"),
        ("Lost in float32", "1 series"),
    ]
    assert class_rows(data) == [["gun", "20", "4", "76"], ["point", "20", "6", "74"]]


def test_a_run_starts_with_a_line_for_each_kind_of_facts(data):
    """Then what the readers and the checks found, a line each."""
    *lines, note, warning = data_lines(data)

    assert lines == [
        "data: GunPoint; 40 training, 10 validation, 150 test; 1 channel, 150 time steps",
        "classes: gun 20/4/76, point 20/6/74 (training/validation/test)",
        "test series: others.csv, named as the test data",
        "columns: values: t0 to t149; label: motion (data.label)",
        "recorded lengths: 120 to 150 time steps; missing values: 1.3 % of all values, in 3 "
        "series; flat once normalized: none; lost in float32: 1 series",
    ]
    assert note == "note: '1' and '1.0' are one class."
    assert warning == "warning: The validation split has fewer than 5 series of 'gun' (4)."


def test_data_without_faults(data):
    """Nothing is left out: none is said to be none."""
    plain = replace(
        data, shortest=150, missing_share=0.0, missing_series={}, unresolved_series=0, columns=()
    )

    assert data_rows(plain)[5:] == [
        ("Recorded lengths", "150 time steps"),
        ("Missing values", "none"),
        ("Flat once normalized", "none"),
        ("Lost in float32", "none"),
    ]
    assert data_messages(replace(plain, remarks=(), warnings=())) == []


@pytest.mark.parametrize(
    ("origin", "file", "text"),
    [
        ("found", "GunPoint_TEST.ts", "GunPoint_TEST.ts, the data set's own"),
        ("drawn", None, "split off the training data here, class by class"),
    ],
)
def test_origin_of_test_series(data, origin, file, text):
    found = replace(data, test_origin=origin, test_file=file)

    assert dict(data_rows(found))["Test series"] == text
    assert f"test series: {text}" in data_lines(found)


def test_few_missing_values_are_not_rounded_to_none(data):
    """One of ten thousand."""
    rows = dict(data_rows(replace(data, missing_share=1e-4)))

    assert rows["Missing values"] == "under 0.1 % of all values, in 3 series"


def test_flat_channels_are_named(data):
    """Beside the number of flat series."""
    rows = dict(data_rows(replace(data, flat_series=2, flat_channels=(0, 3))))

    assert rows["Flat once normalized"] == (
        "2 series; in all of training channel 0, 3, counting from 0"
    )


def test_many_classes_are_cut_in_a_line(data):
    """A dozen, and the number of the others."""
    counts = {str(k): {"train": 2, "validation": 1, "test": 1} for k in range(60)}

    line = data_lines(replace(data, series_per_class=counts))[1]

    assert line.endswith("11 2/1/1, and 48 more (training/validation/test)")


def test_report_of_an_earlier_version_is_read_and_drawn(full_report, earlier):
    """What it lacks is left out, and not said to be none."""
    values = to_json(replace(full_report, data=earlier))
    for key in set(values["data"]) & {"series_per_class", "columns", "remarks", "warnings"}:
        del values["data"][key]

    assert from_json(values).data == earlier
    assert [name for name, _ in data_rows(earlier)] == ["Data", "Series", "Shape", "Classes"]
    assert "Missing values" not in html.render(values) + markdown.render(values)
    assert "Series of each class" not in html.render(values)
