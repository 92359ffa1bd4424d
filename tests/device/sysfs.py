"""The sensor files of three kinds of board, as their kernels lay them out; values are invented.

Where the shapes come from:

- Jetson Orin Nano, Jetson Linux 36: the INA3221 and its labels from the kernel's device tree and
  Documentation/hwmon/ina3221.rst; zones, cooling devices, `soctherm_oc`, devfreq and nvpmodel from
  NVIDIA's developer guide ("Jetson Orin Nano Series ...", Platform Power and Performance).
- Raspberry Pi 5: Documentation/hwmon/raspberrypi-hwmon.rst, and Raspberry Pi's documentation of
  `vcgencmd get_throttled`.
- x86-64: Documentation/admin-guide/pm/intel_pstate.rst, arch/x86/kernel/cpu/mce/therm_throt.c.
"""

from __future__ import annotations

from pathlib import Path

THERMAL, HWMON = "sys/class/thermal", "sys/class/hwmon"
CPUFREQ = "sys/devices/system/cpu/cpufreq"


def _policy(number: int, driver: str, governor: str, now: int, most: int) -> dict[str, str]:
    place = f"{CPUFREQ}/policy{number}"
    return {
        f"{place}/scaling_driver": driver,
        f"{place}/scaling_governor": governor,
        f"{place}/scaling_cur_freq": str(now),
        f"{place}/scaling_max_freq": str(most),
        f"{place}/cpuinfo_max_freq": str(most),
    }


def _zones(celsius: dict[str, float]) -> dict[str, str]:
    files = {}
    for number, (name, value) in enumerate(celsius.items()):
        files[f"{THERMAL}/thermal_zone{number}/type"] = name
        files[f"{THERMAL}/thermal_zone{number}/temp"] = str(int(1000 * value))
    return files


def _cooling(*kinds: str) -> dict[str, str]:
    files = {}
    for number, kind in enumerate(kinds):
        files[f"{THERMAL}/cooling_device{number}/type"] = kind
        files[f"{THERMAL}/cooling_device{number}/cur_state"] = "0"
    return files


ORIN_NANO = {
    **_zones({"cpu-thermal": 48.5, "gpu-thermal": 47.0, "soc0-thermal": 46.2, "tj-thermal": 48.9}),
    f"{THERMAL}/thermal_zone4/type": "cv0-thermal",
    f"{THERMAL}/thermal_zone4/temp": "",  # a part that sleeps answers nothing
    **_cooling("cpufreq-cpu0", "cpufreq-cpu4", "17000000.gpu", "cpu-throttle-alert", "pwm-fan"),
    **_policy(0, "tegra194", "schedutil", 1510400, 1510400),
    **_policy(4, "tegra194", "schedutil", 729600, 1510400),
    "sys/class/devfreq/17000000.gpu/cur_freq": "306000000",
    "sys/class/devfreq/15340000.vic/cur_freq": "115200000",
    f"{HWMON}/hwmon0/name": "pwmfan",
    f"{HWMON}/hwmon1/name": "ina3221",
    **{
        f"{HWMON}/hwmon1/{name}": value
        for name, value in {
            "in1_label": "VDD_IN",
            "in2_label": "VDD_CPU_GPU_CV",
            "in3_label": "VDD_SOC",
            "in7_label": "sum of shunt voltages",
            "in1_input": "4984",
            "in2_input": "4976",
            "in3_input": "4976",
            "in7_input": "20000",
            "curr1_input": "1000",
            "curr2_input": "240",
            "curr3_input": "296",
            "curr4_input": "1536",
            "curr1_crit": "7784",
        }.items()
    },
    f"{HWMON}/hwmon2/name": "soctherm_oc",
    **{f"{HWMON}/hwmon2/oc{n}_event_cnt": "0" for n in (1, 2, 3)},
    **{f"{HWMON}/hwmon2/oc{n}_throt_en": "1" for n in (1, 2, 3)},
    "var/lib/nvpmodel/status": "pmode:0001",
    "etc/nvpmodel.conf": (
        "# < POWER_MODEL ID=id_num NAME=mode_name >\n"
        "< POWER_MODEL ID=0 NAME=15W >\nCPU_ONLINE CORE_0 1\n"
        "< POWER_MODEL ID=1 NAME=25W >\n< POWER_MODEL ID=2 NAME=MAXN_SUPER >\n"
    ),
}
PI_5 = {
    **_zones({"cpu-thermal": 52.3}),
    **_cooling("pwm-fan", "cpufreq-cpu0"),
    **_policy(0, "cpufreq-dt", "ondemand", 2400000, 2400000),
    "sys/class/devfreq/1002000000.v3d/cur_freq": "500000000",
    f"{HWMON}/hwmon0/name": "cpu_thermal",
    f"{HWMON}/hwmon1/name": "rpi_volt",
    f"{HWMON}/hwmon1/in0_lcrit_alarm": "0",
    f"{HWMON}/hwmon2/name": "pwmfan",
}
X86 = {
    **_zones({"acpitz": 27.8, "x86_pkg_temp": 51.0}),
    f"{THERMAL}/thermal_zone10/type": "acpitz",
    f"{THERMAL}/thermal_zone10/temp": "29800",
    **_cooling("Processor", "intel_powerclamp"),
    **_policy(0, "intel_pstate", "powersave", 1200000, 4700000),
    **_policy(1, "intel_pstate", "powersave", 800000, 4700000),
    "sys/devices/system/cpu/cpu0/thermal_throttle/core_throttle_count": "3",
    "sys/devices/system/cpu/cpu0/thermal_throttle/package_throttle_count": "7",
    f"{HWMON}/hwmon0/name": "k10temp",  # AMD's; no board has both, but one tree tests both
    f"{HWMON}/hwmon0/temp1_input": "44125",
    f"{HWMON}/hwmon0/temp1_label": "Tctl",
}


def write(root: Path, files: dict[str, str]) -> Path:
    """Write files below a root, each with the line end that the kernel gives it."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n" if text else "")
    return root


def tool(root: Path, name: str, says: str, *, code: int = 0) -> None:
    """Put a program that prints a text where a vendor puts its tool."""
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\ncat <<'END'\n{says}\nEND\nexit {code}\n")
    path.chmod(0o755)
