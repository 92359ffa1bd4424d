"""The figures of a machine's sensors."""

from __future__ import annotations

import re
from dataclasses import replace

from edgedistill.report.telemetry_plots import telemetry_figures


def test_a_figure_a_kind(telemetry):
    """Heat, clocks and power, each with its sensors; one that never answered is not there."""
    drawn = {title: drawing for drawing, title, _ in telemetry_figures("m", telemetry)}

    assert list(drawn) == ["Temperature", "Clocks", "Power"]
    assert "tj-thermal" in drawn["Temperature"]
    assert "cv0-thermal" not in drawn["Temperature"]
    assert "VDD_IN" in drawn["Power"]


def test_no_sensor_no_figure(telemetry):
    """An empty kind gives an empty drawing."""
    found = telemetry_figures("m", replace(telemetry, power_mw={}, clock_mhz={"cpu": [None] * 4}))

    assert [bool(drawing) for drawing, _, _ in found] == [True, False, False]


def test_silence_is_a_gap(telemetry):
    """A value that is missing in the middle is not bridged by a line."""
    whole = replace(telemetry, clock_mhz={"gpu": [300.0, 300.0, 300.0, 300.0]})
    gap = replace(telemetry, clock_mhz={"gpu": [300.0, 300.0, None, 300.0]})

    drawings = [telemetry_figures("m", found)[1][0] for found in (whole, gap)]

    line = r'<path d="(M[^"]+)"[^>]*stroke: var\(--ink\)'
    moves = [max(path.count("M") for path in re.findall(line, drawing)) for drawing in drawings]
    assert moves == [1, 2]
