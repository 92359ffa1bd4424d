"""Format a machine's sensor readings during a measurement, and costs of a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from edgedistill.report.facts import Costs, Telemetry
from edgedistill.report.format import milliseconds

SHOWN = 4  # sensors of a kind; a board has up to a dozen thermal zones


def telemetry_rows(telemetry: Telemetry) -> list[tuple[str, str]]:
    """Settings, temperature, clocks, power and throttling behind a latency, names and texts."""
    rows = list(telemetry.settings.items())
    for name, values in largest_sensors(telemetry.temperature_c)[:1]:
        rows.append((f"temperature {name}", _summary(values, ".1f", "°C")))
    for name, values in responding_sensors(telemetry.clock_mhz):
        allowed = telemetry.clock_limit_mhz if name == "cpu" else None
        limit = f"; limit {allowed:.0f} MHz" if allowed else ""
        rows.append((f"clock {name}", _summary(values, ".0f", "MHz") + limit))
    for name, values in largest_sensors(telemetry.power_mw):
        rows.append((f"power {name}", _summary([mw / 1e3 for mw in values], ".2f", "W")))
    return [*rows, ("throttling", throttling(telemetry))]


def cost_rows(costs: Costs) -> list[tuple[str, str]]:
    """Throughput, memory and cold start, as names and texts."""
    rows = [
        (
            "throughput, batches",
            f"{costs.best_series_per_s:,.1f} series a second, {costs.best_batch} in one call",
        )
    ]
    if costs.peak_mib is not None:
        bare = "" if costs.bare_mib is None else f", {costs.bare_mib:.1f} MiB without the model"
        rows.append(("peak memory", f"{costs.peak_mib:.1f} MiB{bare}"))
    if costs.cold_start_ms is not None:
        rows.append(("cold start", f"{milliseconds(costs.cold_start_ms)} to the first answer"))
    return rows


def throttling(telemetry: Telemetry) -> str:
    """Throttling of the machine in one line."""
    if telemetry.throttling is None:
        return "nothing on this machine tells"
    return " ".join(telemetry.throttling) or "none was seen"


def responding_sensors(
    sensors: Mapping[str, Sequence[float | None]],
) -> list[tuple[str, list[float]]]:
    """Sensors with their readings; those without any are left out."""
    readings = (
        (name, [value for value in values if value is not None]) for name, values in sensors.items()
    )
    return [(name, values) for name, values in readings if values]


def largest_sensors(sensors: Mapping[str, Sequence[float | None]]) -> list[tuple[str, list[float]]]:
    """The few sensors with the highest readings, the highest first."""
    return sorted(responding_sensors(sensors), key=lambda sensor: max(sensor[1]), reverse=True)[
        :SHOWN
    ]


def _summary(values: Sequence[float], how: str, unit: str) -> str:
    """Format the first value, the highest and the last."""
    first, highest, last = (format(value, how) for value in (values[0], max(values), values[-1]))
    return f"{first} {unit} before, {highest} at most, {last} after"
