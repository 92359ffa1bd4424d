"""The facts of boards, as their device programs tell them."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from typing import Any

import pytest

WORKS = {"works": True, "error": ""}
ABSENT = {"version": None, "works": False, "error": "ModuleNotFoundError: No module named"}
PI = {
    "format": "edgedistill.facts/1",
    "edgedistill": "0.1.0",
    "machine": "aarch64",
    "kernel": "Linux 6.6.31+rpt-rpi-2712",
    "distribution": "Debian GNU/Linux 12 (bookworm)",
    "glibc": "2.36",
    "emulated": False,
    "board": "Raspberry Pi 5 Model B Rev 1.0",
    "compatible": "raspberrypi,5-model-b brcm,bcm2712",
    "jetson_linux": "",
    "system_packages": {"openssh-client": "1:9.2p1-2+deb12u3"},
    "python": {
        "version": "3.11.2",
        "executable": "/usr/bin/python3",
        "virtual": False,
        "managed": True,
        "pip": True,
        "venv": True,
    },
    "packages": {
        "numpy": {"version": "1.24.2", **WORKS},
        "onnxruntime": {"version": "1.23.2", "providers": ["CPUExecutionProvider"], **WORKS},
        "tensorrt": ABSENT,
    },
    "gpu": None,
    "gpu_error": "NVIDIA's driver cannot be loaded",
    "groups": ["pi", "video"],
    "cores": 4,
    "memory_mib": {"total": 8062, "free": 6000},
    "cgroup": {"memory_mib": None, "cpus": None},
    "disk": {"folder": "/home/pi/edgedistill", "free_mib": 20_000, "writable": True},
    "power_mode": "",
    "power_modes": [],
    "governor": "ondemand",
    "gpu_clock_mhz": None,
    "ssh_keygen": "/usr/bin/ssh-keygen",
    "clock": {"seconds": 0, "synchronized": True},
}
ORIN = {
    **PI,
    "distribution": "Ubuntu 22.04.5 LTS",
    "glibc": "2.35",
    "board": "NVIDIA Jetson Orin Nano Developer Kit",
    "compatible": "nvidia,p3768-0000+p3767-0005 nvidia,tegra234",
    "jetson_linux": "36.4.3",
    "python": {**PI["python"], "version": "3.10.12", "managed": False},
    "packages": {
        "numpy": {"version": "1.26.4", **WORKS},
        "onnxruntime": {"version": "1.23.2", "providers": ["CPUExecutionProvider"], **WORKS},
        "tensorrt": {"version": "10.3.0", **WORKS},
    },
    "gpu": {"name": "Orin", "compute_capability": "8.7", "memory_mib": 7620, "cuda": "12.6"},
    "gpu_error": "",
    "groups": ["nvidia", "render", "video"],
    "gpu_clock_mhz": [306.0, 1020.0],
    "power_mode": "15W (0)",
    "power_modes": ["15W", "25W", "MAXN_SUPER"],
}
Change = Callable[..., dict[str, Any]]


def _changed(facts: dict[str, Any]) -> Change:
    """Return facts of now, with some of them changed: `python__version` goes one table down."""

    def change(**changes: Any) -> dict[str, Any]:
        found = copy.deepcopy(facts)
        found["clock"]["seconds"] = int(time.time())
        for name, value in changes.items():
            *path, key = name.split("__")
            place = found
            for part in path:
                place = place[part]
            place[key] = value
        return found

    return change


@pytest.fixture
def pi() -> Change:
    """A Raspberry Pi 5 that lacks nothing."""
    return _changed(PI)


@pytest.fixture
def orin() -> Change:
    """A Jetson Orin Nano with JetPack 6.2 that lacks nothing."""
    return _changed(ORIN)
