"""Figures of the page: blue for the teacher, orange for the student and the chosen variant."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from edgedistill.evaluation.metrics import TOP_FRACTION, Estimate
from edgedistill.io.arrays import Bools, Doubles
from edgedistill.report.facts import Bin, Candidate, Epoch, Example, Report, Telemetry
from edgedistill.report.format import format_size, milliseconds
from edgedistill.report.svg import INK, MUTED, NARROW, RULE, STUDENT, TEACHER, WIDE, svg
from edgedistill.report.telemetry import largest_sensors

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.transforms import Bbox

_SENSOR_STYLES = ((INK, "-"), (MUTED, "-"), (INK, (0, (3, 2))), (MUTED, (0, (3, 2))))
_FEW_POINTS = 8  # up to so many, the points of a line are marked one by one


def size_against_agreement(report: Report) -> str:
    """Draw the file size of each model against its agreement; empty with less than two models."""
    teacher = report.teacher.size_bytes if report.teacher else None
    return _trade_off(report, "File size", lambda m: m.size_bytes, format_size, teacher=teacher)


def latency_against_agreement(report: Report) -> str:
    """Draw the latency of each model against its agreement; empty with less than two models."""
    return _trade_off(
        report,
        "Latency p50, one series",
        lambda m: m.latency_ms.p50 if m.latency_ms else None,
        milliseconds,
        teacher=_teacher_latency(report),
    )


def saliency_agreement(report: Report) -> str:
    """Draw saliency agreement between floor and ceiling; empty with less than two values."""
    rows = [
        (m.name, m.metrics.saliency.pearson, STUDENT if m.name == report.chosen else MUTED, "o")
        for m in report.distilled()
    ]
    rows += [(name, e, TEACHER, "D") for name, e in (report.references or {}).items()]
    drawn = sorted(
        ((name, e, color, marker) for name, e, color, marker in rows if e is not None),
        key=lambda row: row[1].value,
    )
    if len(drawn) < 2:
        return ""

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        for y, (_, e, color, marker) in enumerate(drawn):
            axes.plot([e.low, e.high], [y, y], color=color, linewidth=1.5)
            axes.plot(e.value, y, marker, color=color, markersize=7 if marker == "o" else 6)
        axes.set_yticks(range(len(drawn)), [row[0] for row in drawn])
        axes.tick_params(axis="y", length=0, labelcolor=INK)
        axes.set_ylim(-0.6, len(drawn) - 0.4)
        axes.set_xlim(min(0.0, *(row[1].low for row in drawn)) - 0.02, 1.02)
        axes.set_xlabel("Pearson with the teacher's maps, mean over series")
        axes.spines["left"].set_visible(False)
        axes.grid(axis="x", color=RULE, linewidth=0.6)

    return svg("saliency agreement", draw, width=WIDE, height=64 + 26 * len(drawn))


def overlay(example: Example) -> str:
    """Draw one series above its saliency by teacher and student."""
    teacher, student = unit(example.teacher_map), unit(example.student_map)
    steps = np.arange(len(teacher))

    def draw(figure: Figure) -> None:
        top, bottom = figure.subplots(2, sharex=True, height_ratios=(3, 2))
        for axes in (top, bottom):
            for mask, color in ((strongest(teacher), TEACHER), (strongest(student), STUDENT)):
                shade(axes, mask, color)
        for channel in example.series:
            faint = 1.0 if len(example.series) == 1 else 0.75
            top.plot(steps, channel, color=INK, linewidth=1.2, alpha=faint)
        bottom.axhline(0, color=RULE, linewidth=0.8)
        bottom.fill_between(steps, teacher, color=TEACHER, alpha=0.25, linewidth=0)
        bottom.plot(steps, teacher, color=TEACHER)
        bottom.plot(steps, student, color=STUDENT)
        top.set_ylabel("series")
        bottom.set_ylabel("saliency")
        top.locator_params(axis="y", nbins=3)
        bottom.set_yticks([])
        bottom.set_xlabel("time step")
        bottom.set_xlim(0, max(1, len(steps) - 1))
        top.tick_params(axis="x", length=0)
        top.spines["bottom"].set_visible(False)

    return svg(f"{example.title} {example.index}", draw, width=NARROW, height=270)


def losses(name: str, epochs: Sequence[Epoch], color: str) -> str:
    """Draw training and validation loss over epochs; empty without epochs."""
    if not epochs:
        return ""
    train = [(e.epoch, e.train_loss) for e in epochs]
    held_out = [(e.epoch, e.validation_loss) for e in epochs if e.validation_loss is not None]

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        axes.plot(*_columns(train), color=color, linestyle=(0, (3, 2)), linewidth=1.2)
        if held_out:
            axes.plot(*_columns(held_out), color=color)
        axes.set_xlabel("epoch")
        axes.set_ylabel("loss")
        axes.set_ylim(bottom=0 if min(loss for _, loss in train + held_out) >= 0 else None)
        axes.grid(axis="y", color=RULE, linewidth=0.6)

    return svg(f"loss {name}", draw, width=NARROW, height=240)


def validation_accuracy(teacher: Sequence[Epoch], student: Sequence[Epoch]) -> str:
    """Draw validation accuracy over epochs; empty if it was not measured."""
    curves = [
        ([(e.epoch, e.validation_accuracy) for e in epochs if e.validation_accuracy is not None], c)
        for epochs, c in ((teacher, TEACHER), (student, STUDENT))
    ]
    if not any(points for points, _ in curves):
        return ""

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        for points, color in curves:
            if points:
                axes.plot(*_columns(points), color=color)
        axes.set_xlabel("epoch")
        axes.set_ylabel("validation accuracy")
        axes.set_ylim(top=1.01)
        _percent_ticks(axes, "y")
        axes.grid(axis="y", color=RULE, linewidth=0.6)

    return svg("validation accuracy", draw, width=NARROW, height=240)


def reliability(teacher: Sequence[Bin], student: Sequence[Bin]) -> str:
    """Draw accuracy against confidence; on the diagonal a model is calibrated."""

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        axes.plot([0, 1], [0, 1], color=RULE, linewidth=1)
        for bins, color in ((teacher, TEACHER), (student, STUDENT)):
            if not bins:
                continue
            x, y = _columns([(b.confidence, b.accuracy) for b in bins])
            share = np.array([b.count for b in bins]) / max(1, sum(b.count for b in bins))
            axes.plot(x, y, color=color, linewidth=1, alpha=0.7)
            axes.scatter(x, y, s=12 + 180 * share, color=color, linewidths=0, alpha=0.85)
        start = min([b.confidence for b in (*teacher, *student)], default=0.0)
        axes.set_xlim(max(0.0, start - 0.05), 1.02)
        axes.set_ylim(-0.02, 1.05)
        axes.set_xlabel("confidence")
        axes.set_ylabel("accuracy")
        _percent_ticks(axes, "both")

    return svg("reliability", draw, width=NARROW, height=240)


def telemetry_figures(name: str, telemetry: Telemetry) -> tuple[tuple[str, str, str], ...]:
    """Draw temperature, clocks and power over time; a drawing without sensors is empty.

    Each comes as drawing, title and caption.

    Args:
        name: unique in a page.
        telemetry: readings of the sensors.
    """
    when = "The first value is from before the measurement, the last from after it."
    watts = {
        rail: [None if v is None else v / 1e3 for v in values]
        for rail, values in telemetry.power_mw.items()
    }
    return tuple(
        (
            _telemetry_figure(f"{name} {title}", telemetry.at_s, sensors, unit),
            title,
            f"{caption} {when}",
        )
        for title, sensors, unit, caption in (
            ("Temperature", telemetry.temperature_c, "°C", "The hottest thermal zones."),
            ("Clocks", telemetry.clock_mhz, "MHz", "The highest clock of the CPU, and others."),
            ("Power", watts, "W", "The rails that drew most."),
        )
    )


def unit(values: Sequence[float]) -> Doubles:
    """Scale a map to a strongest value of 1; agreement does not depend on scale."""
    array = np.asarray(values, dtype=np.float64)
    peak = np.abs(array).max()
    return array / peak if peak > 0 else array


def strongest(values: Doubles) -> Bools:
    """Mask of the strongest tenth of a map."""
    count = max(1, round(TOP_FRACTION * len(values)))
    mask = np.zeros(len(values), dtype=bool)
    mask[np.argsort(-np.abs(values), kind="stable")[:count]] = True
    return mask


def shade(axes: Axes, mask: Bools, color: str) -> None:
    """Shade the time steps of a mask, (T,)."""
    edges = np.flatnonzero(np.diff(np.r_[False, mask, False].astype(int)))
    for start, stop in zip(edges[::2], edges[1::2], strict=True):
        axes.axvspan(start - 0.5, stop - 0.5, color=color, alpha=0.14, linewidth=0)


def _teacher_latency(report: Report) -> float | None:
    """Median latency of the teacher, in the runtime of the variants if it was exported."""
    if report.speed is not None and report.speed.teacher_ms is not None:
        return report.speed.teacher_ms.value
    teacher = report.teacher
    return teacher.latency_ms.p50 if teacher and teacher.latency_ms else None


def _trade_off(
    report: Report,
    label: str,
    cost: Callable[[Candidate], float | None],
    write: Callable[[float], str],
    *,
    teacher: float | None,
) -> str:
    """Draw cost, on a logarithmic axis, against agreement; the best corner is the upper left."""
    values = [(cost(m), m.name, m.metrics.agreement) for m in report.distilled()]
    points = sorted(((x, name, y) for x, name, y in values if x and y), key=lambda p: p[:2])
    if len(points) < 2:
        return ""

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        axes.set_xscale("log")
        _points(axes, points, report.chosen)
        if teacher:
            axes.axvline(teacher, color=TEACHER, linewidth=1.2, linestyle=(0, (3, 2)))
        _cost_axis(axes, [*(x for x, *_ in points), *([teacher] if teacher else [])], write)
        axes.set_xlabel(label)
        axes.set_ylabel("agreement with the teacher")
        _percent_ticks(axes, "y")
        axes.grid(axis="y", color=RULE, linewidth=0.6)
        _name_points(figure, axes, points, report.chosen)

    return svg(label, draw, width=WIDE, height=300)


def _telemetry_figure(
    name: str, at_s: Sequence[float], sensors: Mapping[str, Sequence[float | None]], unit: str
) -> str:
    largest = {sensor for sensor, _ in largest_sensors(sensors)}
    if not largest:
        return ""

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        drawn = [sensor for sensor in sensors if sensor in largest]
        for sensor, (color, style) in zip(drawn, _SENSOR_STYLES, strict=False):
            values = np.array(sensors[sensor], dtype=np.float64)  # None becomes NaN: a gap
            marker = "o" if len(at_s) <= _FEW_POINTS else ""
            axes.plot(
                at_s,
                values,
                color=color,
                linestyle=style,
                marker=marker,
                markersize=3,
                label=sensor,
            )
        axes.set_xlabel("seconds")
        axes.set_ylabel(unit)
        axes.margins(y=0.15)
        axes.locator_params(axis="both", nbins=5)
        axes.grid(axis="y", color=RULE, linewidth=0.6)
        figure.legend(loc="outside upper left", ncols=2, frameon=False, fontsize=10, labelcolor=INK)

    return svg(name, draw, width=NARROW, height=240)


def _points(
    axes: Axes, points: Sequence[tuple[float, str, Estimate]], chosen_name: str | None
) -> None:
    """Draw a point for each model, with its interval."""
    for x, name, y in points:
        color = STUDENT if name == chosen_name else MUTED
        axes.plot([x, x], [y.low, y.high], color=color, alpha=0.5)
        axes.plot(
            x, y.value, "o", color=color, markersize=7, zorder=4 if name == chosen_name else 3
        )


def _name_points(
    figure: Figure,
    axes: Axes,
    points: Sequence[tuple[float, str, Estimate]],
    chosen_name: str | None,
) -> None:
    """Place labels next to points without overlaps, as near as possible."""
    figure.draw_without_rendering()  # lays the axes out, so that boxes have their places
    boxes: list[Bbox] = []
    for x, name, y in points:
        color = INK if name == chosen_name else MUTED
        text = axes.annotate(
            name, (x, y.value), xytext=(6, 6), textcoords="offset points", color=color
        )
        for slot in range(2 * len(points)):
            above = slot % 2 == 0
            text.set_position((6, (1 if above else -1) * (6 + 15 * (slot // 2))))
            text.set_verticalalignment("bottom" if above else "top")
            box = text.get_window_extent().expanded(1.1, 1.0)  # a page's letters may be wider
            if not any(box.overlaps(other) for other in boxes):
                break
        boxes.append(box)


def _cost_axis(axes: Axes, costs: Sequence[float], write: Callable[[float], str]) -> None:
    """Set ticks of a logarithmic axis at 1, 2, 5, 10 ...; at the decades alone if it spans many."""
    from matplotlib.ticker import FixedLocator, NullLocator

    low, high = min(costs) / 2, max(costs) * 2
    steps = (1, 2, 5) if high / low < 100 else (1,)
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks = [step * 10.0**decade for decade in decades for step in steps]
    axes.set_xlim(low, high)
    axes.xaxis.set_major_locator(FixedLocator([tick for tick in ticks if low <= tick <= high]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(lambda x, _: write(x).replace(".00", "").replace(".0", ""))


def _percent_ticks(axes: Axes, which: str) -> None:
    from matplotlib.ticker import MaxNLocator, PercentFormatter

    for axis, name in ((axes.xaxis, "x"), (axes.yaxis, "y")):
        if which in (name, "both"):
            axis.set_major_locator(MaxNLocator(5))
            axis.set_major_formatter(PercentFormatter(xmax=1, symbol=" %"))


def _columns(points: Sequence[tuple[float, float]]) -> tuple[list[float], list[float]]:
    return [x for x, _ in points], [y for _, y in points]
