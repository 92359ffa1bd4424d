"""Sensors and costs as text."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edgedistill.errors import ShapeError
from edgedistill.report import Costs
from edgedistill.report.boards import warning
from edgedistill.report.telemetry import cost_rows, largest_sensors, telemetry_rows, throttling


def test_telemetry_rows(telemetry):
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
    """Unknown, none and some differ; only throttling is warned of."""
    found = replace(telemetry, throttling=signs)

    assert throttling(found) == text
    assert bool(warning(found)) == warned
    assert warning(None) == ""


def test_largest_sensors_are_few():
    """The highest first; None is no reading, and a sensor of Nones is left out."""
    sensors = {str(i): [None, float(i)] for i in range(9)} | {"mute": [None, None]}

    assert [name for name, _ in largest_sensors(sensors)] == ["8", "7", "6", "5"]
    assert largest_sensors(sensors)[0][1] == [8.0]


def test_cost_rows(orin_report):
    """Costs that were not measured have no row."""
    least = Costs(series_per_s=10.0, best_batch=4, best_series_per_s=30.0)

    assert cost_rows(orin_report.candidates[0].costs) == [
        ("throughput, batches", "21,500.0 series a second, 16 in one call"),
        ("peak memory", "71.2 MiB, 52.5 MiB without the model"),
        ("cold start", "412 ms to the first answer"),
    ]
    assert [name for name, _ in cost_rows(least)] == ["throughput, batches"]


def test_sensor_needs_a_value_for_each_time(telemetry):
    """A shorter list is refused."""
    with pytest.raises(ShapeError, match="The sensor 'fan' has 1 values for 4 times"):
        replace(telemetry, clock_mhz={"fan": [1.0]})
