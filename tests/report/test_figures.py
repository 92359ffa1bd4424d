"""What the figures of the page must not do: write one name over another."""

from __future__ import annotations

from itertools import combinations

import pytest
from matplotlib.figure import Figure

from edgedistill.evaluation.metrics import Estimate
from edgedistill.report.figures import _name_points, _points


@pytest.mark.parametrize("count", [2, 15])
def test_names_of_models_that_are_alike_stay_apart(count):
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
