"""The figure of an account: the series above what each model leans on.

Blue is the teacher, orange the student, as in the report; for a page in the page's
own colors, for a PNG in those of its light theme.
"""

from __future__ import annotations

import io
import textwrap
import warnings
from typing import TYPE_CHECKING

import numpy as np

from edgedistill.explain.attribution import Attribution, ExplanationReport
from edgedistill.report import figures
from edgedistill.report.format import decimals, percent
from edgedistill.report.svg import LIGHT, PAGE, Palette, set_style
from edgedistill.report.svg import svg as draw_svg

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_CHANNELS = 4  # lines that can be told apart
_WIDTH = 760.0  # CSS pixels: the page at scale 1
_DPI = 144  # two pixels a CSS pixel
_SERIES, _MAP, _KL, _REST = 190, 105, 62, 52  # heights, in CSS pixels
_LINE, _LINE_LETTERS = 17, 122  # of the words above a PNG: height, and letters a line
_READING = (
    "Maps are scaled to their strongest step; gray speaks against the class. Shaded: the tenth of "
    "the series that each model leans on most."
)
_COVERS = {
    "mean": "the mean of their channel",
    "zero": "zeros",
    "local_mean": "the mean of their surroundings",
}
_METHODS = {
    "gradient-input": "Gradient times input, which is another quantity than occlusion",
    "integrated-gradients": "Integrated gradients, which are another quantity than occlusion",
}


def captions(report: ExplanationReport) -> list[str]:
    """Return what the figure shows in words, a sentence each."""
    subject, names = report.input, report.input.class_names
    said = [
        f"the {t.role} says {names[t.prediction]} ({percent(t.probability)})"
        for t in report.attributions
    ]
    title = f"{subject.origin[0].upper()}{subject.origin[1:]}, of class {subject.label}: "
    found = [title + ", ".join(said) + "."]
    why = f"A positive score supports class {names[report.target]}"
    found.append(f"{why}, which the {report.attributions[0].role} predicts.")
    if report.pearson is not None:
        found.append(f"Pearson of the two maps: {decimals(report.pearson)}.")
    plan = subject.plan
    if report.method == "occlusion":
        steps = f"{plan.width} steps, {plan.stride} apart"
        found.append(f"Windows of {steps}, are covered by {_COVERS[plan.baseline]}.")
    else:
        found.append(f"{_METHODS[report.method]}.")
    channels = subject.series.shape[1]
    if channels > MOST_CHANNELS:
        found.append(
            f"Drawn are the first {MOST_CHANNELS} of {channels} channels; the scores are of all."
        )
    return [*found, *subject.notes]


def svg(report: ExplanationReport) -> str:
    """Return the figure for a page."""
    return draw_svg(
        "explanation",
        lambda figure: _draw(figure, report, PAGE),
        width=_WIDTH,
        height=_height(report),
    )


def png(report: ExplanationReport) -> bytes:
    """Return the figure with its words, for where there is no page around it."""
    import matplotlib
    from matplotlib.figure import Figure

    title, *rest = captions(report)
    below = " ".join([*rest, _READING])
    words = [*textwrap.wrap(title, _LINE_LETTERS), *textwrap.wrap(below, _LINE_LETTERS)]
    height = _height(report) + _LINE * len(words) + 8
    stream = io.BytesIO()
    with matplotlib.rc_context(), warnings.catch_warnings():
        # A class may be named in letters that Matplotlib's own font lacks.
        warnings.filterwarnings(
            "ignore", message=r"Glyph \d+ .* missing from", category=UserWarning
        )
        set_style("png", muted=LIGHT.muted, rule=LIGHT.rule)
        figure = Figure(figsize=(_WIDTH / 72, height / 72), layout="constrained")
        figure.suptitle("\n".join(words), x=0.01, ha="left", fontsize=11, color=LIGHT.ink)
        _draw(figure, report, LIGHT)
        figure.savefig(
            stream, format="png", dpi=_DPI, facecolor=LIGHT.paper, metadata={"Software": None}
        )
    return stream.getvalue()


def _height(report: ExplanationReport) -> float:
    return (
        _SERIES + _REST + sum(_MAP + (_KL if t.kl is not None else 0) for t in report.attributions)
    )


def _draw(figure: Figure, report: ExplanationReport, colors: Palette) -> None:
    heights: list[float] = [_SERIES]
    for told in report.attributions:
        heights += [_MAP] if told.kl is None else [_MAP, _KL]
    axes = figure.subplots(len(heights), sharex=True, height_ratios=heights).tolist()
    _draw_series(axes[0], report, colors)
    rest = iter(axes[1:])
    lowest = min(float(figures.unit(told.map.tolist()).min()) for told in report.attributions)
    for told in report.attributions:
        _draw_map(next(rest), told, min(0.0, lowest), colors)
        if told.kl is not None:
            _draw_kl(next(rest), told, report, colors)
    for each in axes:
        each.set_facecolor("none")
    for upper in axes[:-1]:
        upper.tick_params(axis="x", length=0)
        upper.spines["bottom"].set_visible(False)
    axes[-1].set_xlabel("time step")
    axes[-1].set_xlim(-0.5, report.input.plan.length - 0.5)
    figure.align_ylabels(axes)


def _draw_series(axes: Axes, report: ExplanationReport, colors: Palette) -> None:
    channels = report.input.series[0][:MOST_CHANNELS]
    for told in report.attributions:
        figures.shade(axes, figures.strongest(told.map.astype(np.float64)), colors.of(told.role))
    for channel, faint in zip(channels, np.linspace(1, 0.4, len(channels)), strict=True):
        axes.plot(channel, color=colors.ink, linewidth=1.3, alpha=float(faint))
    axes.set_ylabel("series")
    axes.locator_params(axis="y", nbins=3)


def _draw_map(axes: Axes, attribution: Attribution, lowest: float, colors: Palette) -> None:
    """Draw a signed map scaled to its strongest step, what speaks against the class in gray."""
    values, steps, color = (
        figures.unit(attribution.map.tolist()),
        np.arange(len(attribution.map)),
        colors.of(attribution.role),
    )
    for where, fill in ((values > 0, color), (values < 0, colors.muted)):
        axes.fill_between(
            steps, values, where=where, interpolate=True, color=fill, alpha=0.3, linewidth=0
        )
    axes.axhline(0, color=colors.rule, linewidth=0.8)
    axes.plot(steps, values, color=color, linewidth=1.5)
    axes.set_ylim(lowest - 0.1, 1.1)  # the same for both, so that they compare
    axes.set_yticks([])
    axes.set_ylabel(attribution.role, color=color)


def _draw_kl(
    axes: Axes, attribution: Attribution, report: ExplanationReport, colors: Palette
) -> None:
    """Draw each window's KL as a line as wide as the window."""
    plan, scores = report.input.plan, np.asarray(attribution.kl)
    axes.hlines(
        scores,
        plan.starts - 0.5,
        plan.starts + plan.width - 0.5,
        color=colors.of(attribution.role),
        linewidth=1.5,
    )
    peak = float(scores.max())
    room = 0.15 * (peak if peak > 0 else 1)
    axes.set_ylim(-room, peak + room)
    axes.set_yticks([])
    axes.set_ylabel("KL", color=colors.of(attribution.role))
