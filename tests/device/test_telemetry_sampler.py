"""The watch on a machine: when it reads, and what it takes for throttling."""

from __future__ import annotations

import threading
import time
from dataclasses import replace

import pytest

from edgedistill.device import telemetry_sampler as watch
from edgedistill.device.sensors import Reading, Sensors
from edgedistill.device.telemetry_sampler import TelemetrySampler, throttling_signs

CALM = Reading(
    temperature_c={"cpu": 40.0},
    clock_mhz={"cpu": 1500.0},
    power_mw={},
    slowing={"cpufreq-cpu0": 0},
    limit_mhz=1500.0,
)


@pytest.fixture
def orin(sysfs, tmp_path):
    return sysfs.write(tmp_path, sysfs.ORIN_NANO)


def _signs(*readings, counted=None, flags=(), holds_clock=True):
    return throttling_signs(readings, counted or {}, set(flags), holds_clock=holds_clock)


def test_reads_before_during_and_after(sysfs, orin):
    """A change between entry and exit is seen; every sensor has a value for each time."""
    with TelemetrySampler(Sensors(orin), period_s=0.02) as seen:
        time.sleep(0.1)
        sysfs.write(orin, {"sys/class/thermal/thermal_zone3/temp": "61000"})

    found = seen.telemetry()

    assert len(found.at_s) >= 4
    assert found.at_s == sorted(found.at_s)
    assert found.temperature_c["tj-thermal"][0] == 48.9
    assert found.temperature_c["tj-thermal"][-1] == 61.0
    assert {len(v) for v in found.power_mw.values()} == {len(found.at_s)}
    assert found.settings["power mode"] == "25W (1)"
    assert found.clock_limit_mhz == 1510.4
    assert found.throttling == ()


def test_counter_that_moved_is_a_sign(sysfs, orin):
    """A counter that moved is a sign; where it stood before is none."""
    counter = "sys/class/hwmon/hwmon2/oc3_event_cnt"
    sysfs.write(orin, {counter: "5"})

    with TelemetrySampler(Sensors(orin)) as seen:
        sysfs.write(orin, {counter: "7"})

    assert seen.telemetry().throttling == ("Counted during the run: power supply event oc3, 2×.",)


def test_firmware_that_throttled_meanwhile(sysfs, tmp_path):
    """A Raspberry Pi's flag of the time since the boot appears during the run."""
    root = sysfs.write(tmp_path, sysfs.PI_5)
    sysfs.tool(root, "usr/bin/vcgencmd", "throttled=0x0")

    with TelemetrySampler(Sensors(root)) as seen:
        sysfs.tool(root, "usr/bin/vcgencmd", "throttled=0x40000")

    (sign,) = seen.telemetry().throttling
    assert sign == "Counted during the run: throttled by the firmware, 1×."


def test_nothing_to_read_is_no_telemetry(tmp_path):
    """A machine without sensors leaves the part out of its report."""
    with TelemetrySampler(Sensors(tmp_path)) as seen:
        pass

    assert seen.telemetry() is None


def test_throttling_is_unknown_without_such_sensors(sysfs, tmp_path):
    """A temperature alone does not show whether the machine slows down."""
    files = {k: v for k, v in sysfs.PI_5.items() if "thermal_zone" in k}

    with TelemetrySampler(Sensors(sysfs.write(tmp_path, files))) as seen:
        pass

    assert seen.telemetry().throttling is None


def test_stops_with_the_block(orin):
    """The thread ends, also when what was measured fails."""
    with pytest.raises(ZeroDivisionError), TelemetrySampler(Sensors(orin), period_s=0.01):
        raise ZeroDivisionError

    assert "sensors" not in {thread.name for thread in threading.enumerate()}


def test_a_long_run_keeps_a_bounded_number(orin, monkeypatch):
    """Then every other reading goes, the first stays, and the period doubles."""
    monkeypatch.setattr(watch, "_MOST", 8)

    with TelemetrySampler(Sensors(orin), period_s=0.002) as seen:
        time.sleep(0.3)

    found = seen.telemetry()
    assert len(found.at_s) <= 10
    assert found.at_s[0] < 0.05
    assert found.at_s[-1] > 0.25


def test_no_signs_without_throttling():
    """Readings at the limit, nothing counted."""
    assert _signs(CALM, CALM, CALM) == ()


def test_a_cooling_device_is_a_sign():
    """Every reading in which it slows the machine down counts, the first too."""
    hot = replace(CALM, slowing={"cpufreq-cpu0": 2})

    assert _signs(CALM, hot, hot, CALM) == (
        "In 2 of 4 readings: cpufreq-cpu0 slows the machine down.",
    )


def test_a_limit_that_falls_is_a_sign():
    """The kernel caps a hot CPU by its highest clock."""
    capped = replace(CALM, limit_mhz=1036.0)

    assert _signs(CALM, capped) == ("The CPU's highest clock fell from 1500 to 1036 MHz.",)


@pytest.mark.parametrize(
    ("clock", "holds_clock", "said"),
    [(900.0, True, True), (1400.0, True, False), (900.0, False, False), (None, True, False)],
)
def test_a_clock_below_its_limit_under_load(clock, holds_clock, said):
    """It counts where the kernel sets the clock; governors may step a little."""
    slow = replace(CALM, clock_mhz={"cpu": clock})

    found = _signs(CALM, slow, CALM, holds_clock=holds_clock)

    sentence = "Under load the CPU ran at 900 MHz at most; its limit is 1500 MHz."
    assert found == ((sentence,) if said else ())


def test_an_idle_clock_before_and_after_is_none():
    """Only what was read during the load counts."""
    idle = replace(CALM, clock_mhz={"cpu": 600.0})

    assert _signs(idle, CALM, idle) == ()
    assert _signs(idle, idle) == ()


def test_firmware_flag_and_alarm_are_one_sign():
    """The kernel's alarm and the firmware's flag of the same name are one sign."""
    low = replace(CALM, slowing={"supply voltage too low": 1})

    assert _signs(low, low, flags=["supply voltage too low"]) == (
        "The firmware reports: supply voltage too low.",
    )
