"""How a machine's heat, clocks and power went while a model was measured, a figure each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from edgedistill.report.facts import Telemetry
from edgedistill.report.svg import INK, MUTED, NARROW, RULE, svg
from edgedistill.report.telemetry import largest_sensors

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_STYLES = ((INK, "-"), (MUTED, "-"), (INK, (0, (3, 2))), (MUTED, (0, (3, 2))))
_FEW = 8  # points of a line that are also marked, one by one


def telemetry_figures(name: str, telemetry: Telemetry) -> tuple[tuple[str, str, str], ...]:
    """Return drawing, title and caption of each; a drawing without sensors is empty.

    Args:
        name: unique in a page.
        telemetry: what was read.
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


def _telemetry_figure(
    name: str, at_s: Sequence[float], sensors: Mapping[str, Sequence[float | None]], unit: str
) -> str:
    shown = {sensor for sensor, _ in largest_sensors(sensors)}
    if not shown:
        return ""

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        drawn = [sensor for sensor in sensors if sensor in shown]
        for sensor, (color, style) in zip(drawn, _STYLES, strict=False):
            values = np.array(sensors[sensor], dtype=np.float64)  # None becomes NaN: a gap
            marker = "o" if len(at_s) <= _FEW else ""
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
