"""Sensors of the board: clocks, temperatures, power, and signs of throttling.

Each is a small file below /sys that any user may read, or one of two vendors' tools. A sensor that
is missing or cannot be read is left out: nothing here fails for want of one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

from edgedistill.io.vendor_tools import power_mode, read_text, tool_output

SensorReader: TypeAlias = "Callable[[], float | None]"

_HEAT_CHIPS: Final = ("k10temp",)  # whose temperature is no thermal zone: AMD's
_RAIL_CHIPS: Final = "ina"  # power monitors: INA3221 on Orin, INA238 on Thor
_NOT_CONNECTED: Final = "NC"  # the label of a channel that measures nothing
_CLOCKS: Final = re.compile(r"gpu|g[abpv]\d+b|v3d|emc|dmc")  # those of devfreq that matter here
_GPU_CLOCK: Final = re.compile(r"gpu$|g[abpv]\d+b$")  # such as 17000000.gpu
# Cooling devices that cool by slowing down; the others are fans, and alerts to people.
_SLOWING: Final = re.compile(r"cpufreq|devfreq|throttle|\.gpu$|^Processor$")
# The clock of these drivers is the hardware's own affair: below its limit also when all is well.
_FREE_DRIVERS: Final = {"intel_pstate", "intel_cpufreq", "amd-pstate", "amd-pstate-epp"}
# https://www.raspberrypi.com/documentation/computers/os.html#get_throttled
_PI_FLAGS: Final = (
    "supply voltage too low",
    "CPU clock capped",
    "throttled by the firmware",
    "soft temperature limit",
)
_PI_SINCE_BOOT: Final = 16  # the bits from here on mean the same for the time since the boot


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """All sensors at one time; an unreadable one is None."""

    temperature_c: dict[str, float | None]
    clock_mhz: dict[str, float | None]
    power_mw: dict[str, float | None]
    slowing: dict[str, float | None]  # above 0: this slows the machine down now
    limit_mhz: float | None  # the highest clock that the CPU is allowed now


class Sensors:
    """The sensors of this machine: detected once, read any number of times.

    Args:
        root: folder of /sys, /etc and /usr; another one than / in tests only.
    """

    def __init__(self, root: Path = Path("/")) -> None:
        self._root = root
        self._policies = sorted(root.glob("sys/devices/system/cpu/cpufreq/policy*"))
        self._temperatures = _distinct(_temperatures(root))
        self._clocks = _distinct(_clocks(root, self._policies))
        self._rails = _distinct(_rails(root))
        self._slowing = _distinct(_slowing(root))
        self._counters = _distinct(_counters(root))

    @property
    def holds_clock(self) -> bool:
        """Whether the CPU under load runs at its limit unless something slows it down."""
        drivers = {read_text(policy / "scaling_driver") for policy in self._policies}
        return bool(self._policies) and not drivers & _FREE_DRIVERS

    @property
    def shows_throttling(self) -> bool:
        """Whether any sensor here would show that the machine slows down."""
        return bool(self._slowing or self._counters or self.holds_clock or self._flags())

    def read(self) -> Reading:
        """Read all sensors."""
        return Reading(
            temperature_c=_read_all(self._temperatures),
            clock_mhz=_read_all(self._clocks),
            power_mw=_read_all(self._rails),
            slowing=_read_all(self._slowing),
            limit_mhz=_highest([_scaled(p / "scaling_max_freq", 1e-3) for p in self._policies]),
        )

    def counts(self) -> dict[str, int]:
        """Return the number of throttling events since boot, by cause."""
        said = _read_all(self._counters)
        seen = {name: since for name, (_, since) in self._flags().items()}
        return {**{name: int(n) for name, n in said.items() if n is not None}, **seen}

    def flags(self) -> set[str]:
        """Return the present throttling flags of a Raspberry Pi's firmware."""
        return {name for name, (now, _) in self._flags().items() if now}

    def settings(self) -> dict[str, str]:
        """Return the user's settings that change the speed, name to text."""
        governors = {read_text(policy / "scaling_governor") for policy in self._policies}
        found = {
            "power mode": power_mode(self._root),
            "CPU governor": ", ".join(sorted(governors - {""})),
        }
        return {name: text for name, text in found.items() if text}

    def gpu_clock_range(self) -> tuple[float, float] | None:
        """Return the lowest and the highest clock that a Jetson's GPU may take, in MHz.

        Equal ones are locked, as `jetson_clocks` does. None: nothing here says.
        """
        for entry in sorted(self._root.glob("sys/class/devfreq/*")):
            if _GPU_CLOCK.search(entry.name):
                low, high = (_scaled(entry / f"{end}_freq", 1e-6) for end in ("min", "max"))
                if low is not None and high is not None:
                    return low, high
        return None

    def _flags(self) -> dict[str, tuple[int, int]]:
        """Return a Raspberry Pi's flags, each 0 or 1: now, and at any time since the boot."""
        said = tool_output(self._root / "usr/bin/vcgencmd", "get_throttled")
        found = re.search(r"throttled=0x([0-9a-fA-F]+)", said)
        if found is None:
            return {}
        bits = int(found[1], 16)
        return {
            name: (bits >> bit & 1, bits >> (bit + _PI_SINCE_BOOT) & 1)
            for bit, name in enumerate(_PI_FLAGS)
        }


def _temperatures(root: Path) -> Iterator[tuple[str, SensorReader]]:
    for zone in _numbered(root, "sys/class/thermal/thermal_zone*"):
        yield read_text(zone / "type"), _file(zone / "temp", 1e-3)
    for chip, name in _chips(root):
        if name in _HEAT_CHIPS:
            for path in sorted(chip.glob("temp*_input")):
                label = read_text(path.with_name(path.name.replace("_input", "_label")))
                yield f"{name} {label}".strip(), _file(path, 1e-3)


def _clocks(root: Path, policies: Sequence[Path]) -> Iterator[tuple[str, SensorReader]]:
    if policies:
        yield "cpu", lambda: _highest([_cpu_mhz(policy) for policy in policies])
    for entry in sorted(root.glob("sys/class/devfreq/*")):
        name = entry.name.rpartition(".")[2]  # such as 17000000.gpu
        if _CLOCKS.search(name):
            yield name, _file(entry / "cur_freq", 1e-6)
    memory = root / "sys/kernel/debug/bpmp/debug/clk/emc/rate"  # Jetson; root may read it
    yield "emc", _file(memory, 1e-6)


def _cpu_mhz(policy: Path) -> float | None:
    """Return the measured clock, which often root alone may read, or else the set one."""
    measured = _scaled(policy / "cpuinfo_cur_freq", 1e-3)
    return measured if measured is not None else _scaled(policy / "scaling_cur_freq", 1e-3)


def _rails(root: Path) -> Iterator[tuple[str, SensorReader]]:
    for chip, name in _chips(root):
        if not name.startswith(_RAIL_CHIPS):
            continue
        for current in sorted(chip.glob("curr*_input")):
            number = current.name.removeprefix("curr").removesuffix("_input")
            label = read_text(chip / f"in{number}_label")
            if label and label != _NOT_CONNECTED:
                yield label, _product(chip / f"in{number}_input", current)
        for power in sorted(chip.glob("power*_input")):
            label = read_text(power.with_name(power.name.replace("_input", "_label")))
            yield label or _chip_label(chip, name), _file(power, 1e-3)


def _chip_label(chip: Path, name: str) -> str:
    """Return what tells a chip from others of its kind: its label, else its address on the bus."""
    device = chip / "device"
    address = f"{name} {device.resolve().name}" if device.exists() else name
    return read_text(chip / "label") or address


def _slowing(root: Path) -> Iterator[tuple[str, SensorReader]]:
    for device in _numbered(root, "sys/class/thermal/cooling_device*"):
        kind = read_text(device / "type")
        if _SLOWING.search(kind):
            yield kind, _file(device / "cur_state", 1)
    for chip, name in _chips(root):
        if name == "rpi_volt":  # a Raspberry Pi; no tool needs to be started for this flag
            yield _PI_FLAGS[0], _file(chip / "in0_lcrit_alarm", 1)


def _counters(root: Path) -> Iterator[tuple[str, SensorReader]]:
    for chip, name in _chips(root):
        if name == "soctherm_oc":  # Jetson: a rail drew too much, or sagged
            for path in sorted(chip.glob("oc*_event_cnt")):
                yield f"power supply event {path.name.partition('_')[0]}", _file(path, 1)
    for path in sorted(root.glob("sys/devices/system/cpu/cpu0/thermal_throttle/*_throttle_count")):
        yield f"{path.name.partition('_')[0]} temperature", _file(path, 1)  # x86: core, package


def _distinct(gauges: Iterable[tuple[str, SensorReader]]) -> dict[str, SensorReader]:
    """Return the readable sensors by name; a repeated name gets a number."""
    found: dict[str, SensorReader] = {}
    for name, gauge in gauges:
        if not name or gauge() is None:
            continue
        again = sum(1 for known in found if known.partition(" #")[0] == name)
        found[f"{name} #{again + 1}" if again else name] = gauge
    return found


def _read_all(gauges: Mapping[str, SensorReader]) -> dict[str, float | None]:
    return {name: gauge() for name, gauge in gauges.items()}


def _chips(root: Path) -> Iterator[tuple[Path, str]]:
    for chip in _numbered(root, "sys/class/hwmon/hwmon*"):
        yield chip, read_text(chip / "name")


def _numbered(root: Path, pattern: str) -> list[Path]:
    """Return the paths of a pattern, sorted by the number at the end: 10 comes after 9."""
    return sorted(root.glob(pattern), key=lambda p: int("".join(re.findall(r"\d", p.name)) or 0))


def _file(path: Path, scale: float) -> SensorReader:
    return lambda: _scaled(path, scale)


def _product(volts: Path, current: Path) -> SensorReader:
    """Return millivolts times milliamperes, in mW."""

    def read() -> float | None:
        u, i = _scaled(volts, 1e-3), _scaled(current, 1)
        return None if u is None or i is None else round(u * i, 3)

    return read


def _highest(values: Iterable[float | None]) -> float | None:
    return max((value for value in values if value is not None), default=None)


def _scaled(path: Path, scale: float) -> float | None:
    try:
        return round(int(path.read_text("ascii")) * scale, 6)
    except (OSError, ValueError):  # absent, forbidden, asleep, or no number
        return None
