"""What is read from the sensor files of three kinds of board, and of none."""

from __future__ import annotations

import pytest

from edgedistill.device.sensors import Sensors


@pytest.fixture
def orin(sysfs, tmp_path):
    return sysfs.write(tmp_path, sysfs.ORIN_NANO)


@pytest.fixture
def pi(sysfs, tmp_path):
    return sysfs.write(tmp_path, sysfs.PI_5)


def test_orin_nano(orin):
    """Zones in degrees, clocks in MHz, rails in mW; no fan, no part that sleeps."""
    found = Sensors(orin).read()

    assert found.temperature_c == {
        "cpu-thermal": 48.5,
        "gpu-thermal": 47.0,
        "soc0-thermal": 46.2,
        "tj-thermal": 48.9,
    }
    assert found.clock_mhz == {"cpu": 1510.4, "gpu": 306.0}
    assert found.power_mw == pytest.approx(
        {"VDD_IN": 4984, "VDD_CPU_GPU_CV": 4.976 * 240, "VDD_SOC": 4.976 * 296}
    )
    assert set(found.slowing) == {
        "cpufreq-cpu0",
        "cpufreq-cpu4",
        "17000000.gpu",
        "cpu-throttle-alert",
    }
    assert found.limit_mhz == 1510.4


def test_orin_nano_settings_and_counts(orin):
    """The power mode by name and number, and the counters of the power supply."""
    sensors = Sensors(orin)

    assert sensors.settings() == {"power mode": "25W (1)", "CPU governor": "schedutil"}
    assert sensors.counts() == {f"power supply event oc{n}": 0 for n in (1, 2, 3)}
    assert sensors.holds_clock
    assert sensors.shows_throttling


@pytest.mark.parametrize(
    ("status", "mode"),
    [("pmode:0002", "MAXN_SUPER (2)"), ("pmode:0000", "15W (0)"), ("pmode:0009", "9")],
)
def test_power_mode(orin, status, mode):
    """A mode that the board's own list does not name goes by its number."""
    (orin / "var/lib/nvpmodel/status").write_text(status)

    assert Sensors(orin).settings()["power mode"] == mode


def test_power_mode_with_padded_number(orin):
    """Some lists write the number with zeros, as the status does."""
    (orin / "etc/nvpmodel.conf").write_text("< POWER_MODEL ID=01 NAME=MODE_30W >\n")

    assert Sensors(orin).settings()["power mode"] == "MODE_30W (1)"


def test_power_mode_comes_from_nvpmodel_if_never_saved(sysfs, tmp_path):
    """Where no mode was ever saved, nvpmodel itself is asked."""
    sysfs.tool(tmp_path, "usr/sbin/nvpmodel", "NV Power Mode: MAXN\n0")

    assert Sensors(tmp_path).settings() == {"power mode": "MAXN (0)"}


def test_root_reads_measured_and_memory_clocks(sysfs, orin):
    """A clock as measured wins over one as asked for, and the memory's clock is there."""
    more = {
        f"{sysfs.CPUFREQ}/policy0/cpuinfo_cur_freq": "242000",
        f"{sysfs.CPUFREQ}/policy4/cpuinfo_cur_freq": "649000",
        "sys/kernel/debug/bpmp/debug/clk/emc/rate": "2133000000",
    }

    found = Sensors(sysfs.write(orin, more)).read().clock_mhz

    assert found == {"cpu": 649.0, "gpu": 306.0, "emc": 2133.0}


def test_power_chip_with_a_power_reading(sysfs, tmp_path):
    """Thor's INA238 gives microwatts and no label."""
    files = {
        "sys/class/hwmon/hwmon3/name": "ina238",
        "sys/class/hwmon/hwmon3/power1_input": "5120000",
    }

    assert Sensors(sysfs.write(tmp_path, files)).read().power_mw == {"ina238": 5120.0}


def test_power_chips_of_one_kind_are_told_apart(sysfs, tmp_path):
    """By their label, else by their address on the bus; the order of hwmon is no name."""
    files = {
        "sys/devices/1-0044/marker": "",
        "sys/class/hwmon/hwmon3/name": "ina238",
        "sys/class/hwmon/hwmon3/power1_input": "5120000",
        "sys/class/hwmon/hwmon4/name": "ina238",
        "sys/class/hwmon/hwmon4/label": "VDD_GPU",
        "sys/class/hwmon/hwmon4/power1_input": "7000000",
    }
    root = sysfs.write(tmp_path, files)
    (root / "sys/class/hwmon/hwmon3/device").symlink_to(root / "sys/devices/1-0044")

    found = Sensors(root).read().power_mw

    assert found == {"ina238 1-0044": 5120.0, "VDD_GPU": 7000.0}


def test_a_channel_that_is_not_connected_is_no_rail(sysfs, orin):
    """The boards' device tree calls it NC; its reading is noise."""
    chip = "sys/class/hwmon/hwmon1"
    more = {
        f"{chip}/in9_label": "NC",
        f"{chip}/in9_input": "5000",
        f"{chip}/curr9_input": "10",
    }
    before = Sensors(orin).read().power_mw

    assert before
    assert Sensors(sysfs.write(orin, more)).read().power_mw == before


def test_raspberry_pi(pi):
    """One zone, a clock, the alarm of the supply voltage."""
    found = Sensors(pi).read()

    assert found.temperature_c == {"cpu-thermal": 52.3}
    assert found.clock_mhz == {"cpu": 2400.0, "v3d": 500.0}
    assert found.power_mw == {}
    assert found.slowing == {"cpufreq-cpu0": 0, "supply voltage too low": 0}


def test_raspberry_pi_firmware(sysfs, pi):
    """Flags of now, and since the boot: it throttles, and was low on voltage earlier."""
    sysfs.tool(pi, "usr/bin/vcgencmd", "throttled=0x50004")

    sensors = Sensors(pi)

    assert sensors.flags() == {"throttled by the firmware"}
    assert sensors.counts() == {
        "supply voltage too low": 1,
        "CPU clock capped": 0,
        "throttled by the firmware": 1,
        "soft temperature limit": 0,
    }


def test_a_tool_that_fails_is_left_out(sysfs, pi):
    """Not in the group that may ask the firmware: no flags, no error."""
    sysfs.tool(pi, "usr/bin/vcgencmd", "VCHI initialization failed", code=1)

    assert Sensors(pi).counts() == {}


def test_x86(sysfs, tmp_path):
    """Zones of one name get numbers; a clock below its limit is no sign here; counters are read."""
    sensors = Sensors(sysfs.write(tmp_path, sysfs.X86))
    found = sensors.read()

    assert found.temperature_c == {
        "acpitz": 27.8,
        "x86_pkg_temp": 51.0,
        "acpitz #2": 29.8,
        "k10temp Tctl": 44.125,
    }
    assert found.clock_mhz == {"cpu": 1200.0}
    assert found.slowing == {"Processor": 0}
    assert sensors.counts() == {"core temperature": 3, "package temperature": 7}
    assert not sensors.holds_clock
    assert sensors.settings() == {"CPU governor": "powersave"}


def test_a_machine_without_sensors(tmp_path):
    """Nothing is made up."""
    sensors = Sensors(tmp_path)
    found = sensors.read()

    assert (found.temperature_c, found.clock_mhz, found.power_mw, found.slowing) == ({}, {}, {}, {})
    assert found.limit_mhz is None
    assert sensors.settings() == {}
    assert sensors.counts() == {}
    assert not sensors.shows_throttling


def test_sensor_that_fails_later_reads_none(orin):
    """What answered once and then does not is None, and the others go on."""
    sensors = Sensors(orin)
    (orin / "sys/class/hwmon/hwmon1/curr1_input").write_text("")
    (orin / "sys/class/thermal/thermal_zone0/temp").unlink()

    found = sensors.read()

    assert found.power_mw["VDD_IN"] is None
    assert found.temperature_c["cpu-thermal"] is None
    assert found.temperature_c["tj-thermal"] == 48.9


def test_this_machine():
    """Whatever is here can be read, twice, and stays what it is."""
    sensors = Sensors()

    first, second = sensors.read(), sensors.read()

    assert first.temperature_c.keys() == second.temperature_c.keys()
    assert first.clock_mhz.keys() == second.clock_mhz.keys()
