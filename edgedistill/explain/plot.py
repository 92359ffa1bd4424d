"""The figure of an explanation and the page around it: the series above each model's map.

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
from edgedistill.report import figures, html
from edgedistill.report import format as fmt
from edgedistill.report.format import decimals, percent
from edgedistill.report.svg import LIGHT, PAGE, Palette, set_style
from edgedistill.report.svg import svg as draw_svg

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_TEMPLATE = "page.html.j2"
MOST_CHANNELS = 4  # lines that can be told apart
_WIDTH = 760.0  # CSS pixels: the page at scale 1
_DPI = 144  # two pixels a CSS pixel
_SERIES, _MAP, _KL, _REST = 190, 105, 62, 52  # heights, in CSS pixels
_LINE, _LINE_LETTERS = 17, 122  # of the captions above a PNG: height, and letters a line
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
    """Return the description of the figure, a sentence each."""
    subject, names = report.input, report.input.class_names
    predictions = [
        f"the {t.role} says {names[t.prediction]} ({percent(t.probability)})"
        for t in report.attributions
    ]
    title = f"{subject.origin[0].upper()}{subject.origin[1:]}, of class {subject.label}: "
    sentences = [title + ", ".join(predictions) + "."]
    why = f"A positive score supports class {names[report.target]}"
    sentences.append(f"{why}, which the {report.attributions[0].role} predicts.")
    if report.pearson is not None:
        sentences.append(f"Pearson of the two maps: {decimals(report.pearson)}.")
    plan = subject.plan
    if report.method == "occlusion":
        steps = f"{plan.width} steps, {plan.stride} apart"
        sentences.append(f"Windows of {steps}, are covered by {_COVERS[plan.baseline]}.")
    else:
        sentences.append(f"{_METHODS[report.method]}.")
    channels = subject.series.shape[1]
    if channels > MOST_CHANNELS:
        sentences.append(
            f"Drawn are the first {MOST_CHANNELS} of {channels} channels; the scores are of all."
        )
    return [*sentences, *subject.notes]


def svg(report: ExplanationReport) -> str:
    """Return the figure for a page."""
    return draw_svg(
        "explanation",
        lambda figure: _draw(figure, report, PAGE),
        width=_WIDTH,
        height=_height(report),
    )


def png(report: ExplanationReport) -> bytes:
    """Return the figure with its captions, to stand without a page around it."""
    import matplotlib

    stream = io.BytesIO()
    with matplotlib.rc_context(), warnings.catch_warnings():
        # A class may be named in letters that Matplotlib's own font lacks.
        warnings.filterwarnings(
            "ignore", message=r"Glyph \d+ .* missing from", category=UserWarning
        )
        draw(report).savefig(
            stream, format="png", dpi=_DPI, facecolor=LIGHT.paper, metadata={"Software": None}
        )
    return stream.getvalue()


def draw(report: ExplanationReport) -> Figure:
    """Return the figure with its captions as a Matplotlib figure of its own."""
    import matplotlib
    from matplotlib.figure import Figure

    title, *rest = captions(report)
    below = " ".join([*rest, _READING])
    words = [*textwrap.wrap(title, _LINE_LETTERS), *textwrap.wrap(below, _LINE_LETTERS)]
    height = _height(report) + _LINE * len(words) + 8
    with matplotlib.rc_context():
        set_style("png", muted=LIGHT.muted, rule=LIGHT.rule)
        figure = Figure(figsize=(_WIDTH / 72, height / 72), layout="constrained")
        figure.suptitle("\n".join(words), x=0.01, ha="left", fontsize=11, color=LIGHT.ink)
        _draw(figure, report, LIGHT)
    return figure


def render(report: ExplanationReport, windows: int) -> str:
    """Return one HTML page that opens anywhere, offline; equal reports give equal pages.

    Args:
        report: explanation of one series.
        windows: strongest windows of each model that are listed.
    """
    sentences = captions(report)
    (figure,) = html.non_empty((svg(report), "Series and scores", " ".join(sentences[1:])))
    return html.template(_TEMPLATE, "edgedistill.explain").render(
        report=report,
        input=report.input,
        lead=sentences[0],
        figure=figure,
        windows=windows,
        fmt=fmt,
    )


def _height(report: ExplanationReport) -> float:
    return (
        _SERIES + _REST + sum(_MAP + (_KL if t.kl is not None else 0) for t in report.attributions)
    )


def _draw(figure: Figure, report: ExplanationReport, colors: Palette) -> None:
    heights: list[float] = [_SERIES]
    for attribution in report.attributions:
        heights += [_MAP] if attribution.kl is None else [_MAP, _KL]
    axes = figure.subplots(len(heights), sharex=True, height_ratios=heights).tolist()
    _draw_series(axes[0], report, colors)
    rest = iter(axes[1:])
    lowest = min(
        float(figures.unit(attribution.map.tolist()).min()) for attribution in report.attributions
    )
    for attribution in report.attributions:
        _draw_map(next(rest), attribution, min(0.0, lowest), colors)
        if attribution.kl is not None:
            _draw_kl(next(rest), attribution, report, colors)
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
    for attribution in report.attributions:
        figures.shade(
            axes, figures.strongest(attribution.map.astype(np.float64)), colors.of(attribution.role)
        )
    for channel, faint in zip(channels, np.linspace(1, 0.4, len(channels)), strict=True):
        axes.plot(channel, color=colors.ink, linewidth=1.3, alpha=float(faint))
    axes.set_ylabel("series")
    axes.locator_params(axis="y", nbins=3)


def _draw_map(axes: Axes, attribution: Attribution, lowest: float, colors: Palette) -> None:
    """Draw a signed map scaled to its strongest step, negative values in gray."""
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
