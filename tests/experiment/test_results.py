"""The table is written and read without loss, and other files are refused."""

from __future__ import annotations

import pytest

from edgedistill.errors import DataError
from edgedistill.experiment import results
from edgedistill.experiment.results import COLUMNS, Row


def test_rows_round_trip(tmp_path, rng):
    numbers = {name: float(rng.normal()) for name in results.NUMBERS} | {"parameters": 12.0}
    rows = [
        Row("a, b", "kd", 1, None, numbers, '{"kd": 0.9}'),
        Row("a, b", "kd", 2, 'no "data"', {"teacher_accuracy": 0.5}),
    ]
    path = tmp_path / "results.csv"

    results.write(path, rows)

    assert results.read(path) == rows
    assert [row.status for row in rows] == ["done", "failed"]
    assert path.read_text().splitlines()[0] == ",".join(COLUMNS)
    assert ",12," in path.read_text()


def test_a_folder_without_a_table_is_refused(tmp_path):
    with pytest.raises(DataError, match="Name the folder of an experiment"):
        results.read(tmp_path / "results.csv")


def test_other_columns_are_refused(tmp_path):
    path = tmp_path / "results.csv"
    path.write_text("set,method\n")

    with pytest.raises(DataError, match="other columns"):
        results.read(path)


def test_a_damaged_table_is_refused(tmp_path):
    path = tmp_path / "results.csv"
    path.write_text(",".join(COLUMNS) + "\nGunPoint,kd,first\n")

    with pytest.raises(DataError, match="is damaged"):
        results.read(path)


def test_published_accuracies_are_read_by_column_and_set(tmp_path):
    path = tmp_path / "published.csv"
    path.write_text("set,ResNet,LITE\nBeef,0.75,\nPlane,1.0,0.9\n")

    found = results.read_published(path, ["ResNet", "LITE"])

    assert found == {"ResNet": {"Beef": 0.75, "Plane": 1.0}, "LITE": {"Plane": 0.9}}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("set,ResNet\nBeef,0.75\n", "no column LITE. Choose from ResNet"),
        ("set,LITE\nBeef,good\n", "no table of accuracies"),
        ("", "no column LITE"),
        (None, "Cannot read"),
    ],
)
def test_a_table_without_the_accuracies_is_refused(tmp_path, text, message):
    path = tmp_path / "published.csv"
    if text is not None:
        path.write_text(text)

    with pytest.raises(DataError, match=message):
        results.read_published(path, ["LITE"])
