"""Figures of the page: legible names, one telemetry figure for each kind of sensor."""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import combinations

import pytest
from matplotlib.figure import Figure

from edgedistill.evaluation.metrics import Estimate
from edgedistill.report.figures import _name_points, _points, telemetry_figures


@pytest.mark.parametrize("count", [2, 15])
def test_names_of_close_points_do_not_overlap(count):
    """Fifteen variants of one student lie within a few percent of each other."""
    points = [
        (10 + index / 10, f"ort-int8-{index}", Estimate(0.98, 0.97, 0.99)) for index in range(count)
    ]
    figure = Figure(figsize=(6, 4))
    axes = figure.add_subplot()

    _points(axes, points, chosen_name=None)
    _name_points(figure, axes, points, chosen_name=None)

    boxes = [text.get_window_extent() for text in axes.texts]
    assert [text.get_text() for text in axes.texts] == [name for _, name, _ in points]
    assert not any(one.overlaps(other) for one, other in combinations(boxes, 2))


def test_one_figure_for_each_kind_of_sensor(telemetry):
    """Temperature, clocks and power, with their sensors; one without readings is left out."""
    drawn = {title: drawing for drawing, title, _ in telemetry_figures("m", telemetry)}

    assert list(drawn) == ["Temperature", "Clocks", "Power"]
    assert "tj-thermal" in drawn["Temperature"]
    assert "cv0-thermal" not in drawn["Temperature"]
    assert "VDD_IN" in drawn["Power"]


def test_kind_without_sensors_has_an_empty_drawing(telemetry):
    """Also if a sensor has no readings."""
    found = telemetry_figures("m", replace(telemetry, power_mw={}, clock_mhz={"cpu": [None] * 4}))

    assert [bool(drawing) for drawing, _, _ in found] == [True, False, False]


def test_missing_reading_leaves_a_gap_in_the_line(telemetry):
    """No line bridges it."""
    whole = replace(telemetry, clock_mhz={"gpu": [300.0, 300.0, 300.0, 300.0]})
    gap = replace(telemetry, clock_mhz={"gpu": [300.0, 300.0, None, 300.0]})

    drawings = [telemetry_figures("m", found)[1][0] for found in (whole, gap)]

    line = r'<path d="(M[^"]+)"[^>]*stroke: var\(--ink\)'
    moves = [max(path.count("M") for path in re.findall(line, drawing)) for drawing in drawings]
    assert moves == [1, 2]
