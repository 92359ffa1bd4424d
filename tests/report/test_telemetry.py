"""Sensors and costs in words."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edgedistill.errors import ShapeError
from edgedistill.report import Costs
from edgedistill.report.boards import board_rows, chain, summary, warning
from edgedistill.report.telemetry import cost_rows, largest_sensors, telemetry_rows, throttling


def test_telemetry_in_words(telemetry):
    """Settings, the hottest zone, every clock with the CPU's limit, rails in watts."""
    assert telemetry_rows(telemetry) == [
        ("power mode", "15W (0)"),
        ("CPU governor", "schedutil"),
        ("temperature tj-thermal", "48.5 °C before, 59.0 at most, 58.5 after"),
        ("clock cpu", "730 MHz before, 1510 at most, 1510 after; limit 1510 MHz"),
        ("clock gpu", "306 MHz before, 306 at most, 306 after"),
        ("power VDD_IN", "4.90 W before, 7.25 at most, 5.60 after"),
        ("throttling", "none was seen"),
    ]


@pytest.mark.parametrize(
    ("signs", "text", "warned"),
    [
        (None, "nothing on this machine tells", False),
        ((), "none was seen", False),
        (("One.", "Two."), "One. Two.", True),
    ],
)
def test_throttling(telemetry, signs, text, warned):
    """Not known, not seen and seen are three things; only what was seen is warned of."""
    found = replace(telemetry, throttling=signs)

    assert throttling(found) == text
    assert bool(warning(found)) == warned
    assert warning(None) == ""


def test_foremost_are_few():
    """The highest first; None is no value, a sensor of Nones no sensor."""
    sensors = {str(i): [None, float(i)] for i in range(9)} | {"mute": [None, None]}

    assert [name for name, _ in largest_sensors(sensors)] == ["8", "7", "6", "5"]
    assert largest_sensors(sensors)[0][1] == [8.0]


def test_costs_in_words(orin_report):
    """What was not measured has no line."""
    least = Costs(series_per_s=10.0, best_batch=4, best_series_per_s=30.0)

    assert cost_rows(orin_report.candidates[0].costs) == [
        ("throughput, batches", "21,500.0 series a second, 16 in one call"),
        ("peak memory", "71.2 MiB, 52.5 MiB without the model"),
        ("cold start", "412 ms to the first answer"),
    ]
    assert [name for name, _ in cost_rows(least)] == ["throughput, batches"]


def test_telemetry_must_be_whole(telemetry):
    """A sensor has one value for each time."""
    with pytest.raises(ShapeError, match="The sensor 'fan' has 1 values for 4 times"):
        replace(telemetry, clock_mhz={"fan": [1.0]})


def test_chain_from_teacher_to_engines(joined_report):
    """Teacher, student, the variant that was deployed, and its engine on each board."""
    columns = chain(joined_report)

    assert [(column.title, column.mark) for column in columns] == [
        ("teacher", ""),
        ("student", ""),
        ("int8", "chosen"),
        ("engine on orin", "kept"),
        ("engine on pi-5", "broken"),
    ]
    assert [column.raised for column in columns] == [False, False, False, True, True]
    assert columns[3].note == "int8: onnxruntime 1.23.2, int8"


def test_chain_has_what_boards_measured(joined_report):
    """A line that no board can fill is left out there."""
    labels = {row.label for rows in board_rows(joined_report).values() for row in rows}

    assert {"Peak memory", "Cold start", "Throughput", "Agreement", "Pearson"} <= labels
    assert "AUC-PRC" not in labels


def test_summary_of_a_board(joined_report):
    """The outcome, and that its time is that of a machine that slowed down."""
    kept, broken = joined_report.boards

    assert summary(kept).startswith("kept, ")
    assert summary(kept).endswith("p95 360 µs")
    assert summary(broken).startswith("broken, ")
    assert summary(broken).endswith("slowed down while it was measured")
