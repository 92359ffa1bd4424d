"""Telemetry during a measurement: the sensors read before, during and after.

A machine that slows down while it is measured gives figures of its cooling, not of the model.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from types import TracebackType

from edgedistill.device.sensors import Reading, Sensors
from edgedistill.report import Telemetry

PERIOD_S = 0.5  # a reading takes a few milliseconds at most, of a thread that mostly waits
_MOST = 240  # readings that are kept: two minutes, then every other one, and so on
_CLOCK_SHARE = 0.9  # of its limit: governors step, and a reading can hit a pause


class TelemetrySampler:
    """Read the sensors on entry, from time to time, and on exit.

    Args:
        sensors: sensors to read; by default those of this machine.
        period_s: seconds between readings.
    """

    def __init__(self, sensors: Sensors | None = None, *, period_s: float = PERIOD_S) -> None:
        self._sensors = sensors or Sensors()
        self._period_s = period_s
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._go_on, name="sensors", daemon=True)
        self._at_s: list[float] = []
        self._readings: list[Reading] = []
        self._throttling: tuple[str, ...] | None = None

    def __enter__(self) -> TelemetrySampler:
        """Read once, and start to read from time to time."""
        self._counts, self._flags = self._sensors.counts(), self._sensors.flags()
        self._start = time.monotonic()
        self._read()
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop, and read once more."""
        self._over.set()
        self._thread.join()
        self._read()
        if self._sensors.shows_throttling:
            self._throttling = throttling_signs(
                self._readings,
                _more(self._counts, self._sensors.counts()),
                self._flags | self._sensors.flags(),
                holds_clock=self._sensors.holds_clock,
            )

    def telemetry(self) -> Telemetry | None:
        """Return the readings, after the exit; None where there is no sensor."""
        settings = self._sensors.settings()
        first = self._readings[0]
        sensors = (first.temperature_c, first.clock_mhz, first.power_mw)
        if not any((*sensors, settings)) and self._throttling is None:
            return None
        return Telemetry(
            at_s=[round(at, 3) for at in self._at_s],
            settings=settings,
            temperature_c=_columns([reading.temperature_c for reading in self._readings]),
            clock_mhz=_columns([reading.clock_mhz for reading in self._readings]),
            power_mw=_columns([reading.power_mw for reading in self._readings]),
            clock_limit_mhz=first.limit_mhz,
            throttling=self._throttling,
        )

    def _go_on(self) -> None:
        while not self._over.wait(self._period_s):
            self._read()
            if len(self._readings) > _MOST:
                del self._at_s[1::2], self._readings[1::2]
                self._period_s *= 2

    def _read(self) -> None:
        self._at_s.append(time.monotonic() - self._start)
        self._readings.append(self._sensors.read())


def throttling_signs(
    readings: Sequence[Reading],
    counter_delta: Mapping[str, int],
    flags: set[str],
    *,
    holds_clock: bool,
) -> tuple[str, ...]:
    """Return the signs that a machine slowed down, a sentence each.

    Args:
        readings: readings, the first before the load, the last after it.
        counter_delta: increments of the throttling counters during the load.
        flags: throttling flags of the firmware.
        holds_clock: whether the CPU under load runs at its limit unless it is throttled.
    """
    found = [f"The firmware reports: {name}." for name in sorted(flags)]
    for name in readings[0].slowing:
        times = sum(1 for reading in readings if (reading.slowing[name] or 0) > 0)
        if times and name not in flags:
            found.append(f"In {times} of {len(readings)} readings: {name} slows the machine down.")
    found += [f"Counted during the run: {name}, {times}×." for name, times in counter_delta.items()]
    before, after = readings[0].limit_mhz, readings[-1].limit_mhz
    if before is not None and after is not None and after < before:
        found.append(f"The CPU's highest clock fell from {before:.0f} to {after:.0f} MHz.")
    during = [reading.clock_mhz.get("cpu") for reading in readings[1:-1]]
    highest = max((clock for clock in during if clock is not None), default=None)
    if holds_clock and before and highest is not None and highest < _CLOCK_SHARE * before:
        found.append(
            f"Under load the CPU ran at {highest:.0f} MHz at most; its limit is {before:.0f} MHz."
        )
    return tuple(found)


def _more(before: Mapping[str, int], after: Mapping[str, int]) -> dict[str, int]:
    return {
        name: count - before[name]
        for name, count in after.items()
        if count > before.get(name, count)
    }


def _columns(rows: Sequence[Mapping[str, float | None]]) -> dict[str, list[float | None]]:
    return {name: [row[name] for row in rows] for name in rows[0]}
