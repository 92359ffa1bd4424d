"""Figures of an experiment's report, for the page and as PNG."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edgedistill.experiment.statistics import ALPHA, LOWER_IS_BETTER, Comparison
from edgedistill.report.svg import LIGHT, PAGE, Palette, set_style
from edgedistill.report.svg import svg as draw_svg

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's colors that can be read on light and on dark paper, each with its own marker.
_MARKERS = (
    *(("#0072b2", "o"), ("#d55e00", "s"), ("#009e73", "^"), ("#cc79a7", "D")),
    *(("#b8860b", "v"), ("#56b4e9", "P"), ("#7f7f7f", "X")),
)
_WIDTH, _HEIGHT = 620.0, 400.0  # CSS pixels at scale 1
_DPI = 144  # two pixels a CSS pixel
_ROW = 15  # CSS pixels of a line of the legend


@dataclass(frozen=True, slots=True)
class Points:
    """A method on every set: accuracy against the teacher's, and agreement of the maps."""

    method: str
    accuracy: tuple[float, ...]  # minus the teacher's, for each set
    pearson: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Scatter:
    """Accuracy against saliency agreement; ceiling and floor are means over sets."""

    points: tuple[Points, ...]
    ceiling: float | None
    floor: float | None


def critical_difference(comparison: Comparison) -> bytes | None:
    """Draw the critical-difference diagram of mean ranks as PNG.

    None for fewer than three methods or two sets, or where nothing differs.

    Source: Demsar 2006, with the cliques of one-sided Wilcoxon tests.
    """
    if comparison.friedman_p is None:
        return None
    from aeon.visualisation import plot_critical_difference

    def draw() -> Figure:
        figure, _ = plot_critical_difference(
            comparison.scores,
            list(comparison.methods),
            lower_better=comparison.metric in LOWER_IS_BETTER,
            test="wilcoxon",
            correction="holm",
            alpha=ALPHA,
        )
        drawn: Figure = figure
        return drawn

    return _png(draw)


def scatter_svg(scatter: Scatter) -> str:
    """Draw the scatter as SVG for a page."""
    height = _HEIGHT + _ROW * len(scatter.points)
    return draw_svg(
        "accuracy against reasons",
        lambda figure: _draw(figure, scatter, PAGE),
        width=_WIDTH,
        height=height,
    )


def scatter_png(scatter: Scatter) -> bytes:
    """Draw the scatter as PNG."""
    from matplotlib.figure import Figure

    def draw() -> Figure:
        size = (_WIDTH / 72, (_HEIGHT + _ROW * len(scatter.points)) / 72)
        figure = Figure(figsize=size, layout="constrained")
        _draw(figure, scatter, LIGHT)
        return figure

    return _png(draw)


def _png(draw: Callable[[], Figure]) -> bytes:
    """Render a figure in the report's style as PNG; close it if pyplot made it."""
    import matplotlib
    from matplotlib import pyplot

    stream = io.BytesIO()
    with matplotlib.rc_context(), warnings.catch_warnings():
        # Sets and methods may be named in letters that Matplotlib's own font lacks.
        warnings.filterwarnings("ignore", message=r"Glyph \d+ .* missing", category=UserWarning)
        warnings.filterwarnings("ignore", message=r"Estimators .* have the same performance")
        set_style("png", muted=LIGHT.muted, rule=LIGHT.rule)
        figure = draw()
        figure.savefig(
            stream,
            format="png",
            dpi=_DPI,
            facecolor="white",  # in which aeon draws what must be invisible
            bbox_inches="tight",  # names of any length
            metadata={"Software": None},
        )
        pyplot.close(figure)
    return stream.getvalue()


def _draw(figure: Figure, scatter: Scatter, colors: Palette) -> None:
    from matplotlib.ticker import PercentFormatter

    axes = figure.add_subplot()
    axes.axvline(0, color=colors.rule, linewidth=1)
    _draw_methods(axes, scatter.points, colors)
    for name, level in (("ceiling", scatter.ceiling), ("floor", scatter.floor)):
        if level is not None:
            _draw_level(axes, name, level, colors)
    axes.set_xlabel("accuracy against the teacher, percentage points")
    axes.set_ylabel("Pearson with the teacher's maps")
    axes.xaxis.set_major_formatter(PercentFormatter(xmax=1, symbol=""))
    axes.grid(color=colors.rule, linewidth=0.6)
    figure.legend(loc="outside lower left", ncols=_columns(scatter.points), frameon=False)


def _draw_methods(axes: Axes, methods: Sequence[Points], colors: Palette) -> None:
    """Draw a small marker for each set, and a large one for the mean of a method."""
    for index, points in enumerate(methods):
        color, marker = _MARKERS[index % len(_MARKERS)]
        axes.scatter(
            points.accuracy,
            points.pearson,
            s=22,
            marker=marker,
            color=color,
            alpha=0.45,
            linewidths=0,
        )
        axes.scatter(
            np.mean(points.accuracy),
            np.mean(points.pearson),
            s=110,
            marker=marker,
            color=color,
            edgecolors=colors.ink,
            linewidths=1,
            label=points.method,
            zorder=4,
        )


def _draw_level(axes: Axes, name: str, level: float, colors: Palette) -> None:
    axes.axhline(level, color=colors.teacher, linewidth=1.2, linestyle=(0, (3, 2)))
    axes.annotate(
        name,
        (1, level),
        xycoords=("axes fraction", "data"),
        xytext=(-2, 3),
        textcoords="offset points",
        ha="right",
        color=colors.teacher,
    )


def _columns(points: Sequence[Points]) -> int:
    """Number of names in a line of the legend."""
    longest = max(len(each.method) for each in points)
    return max(1, min(4, int(80 / (longest + 6))))
