"""Versions and hardware of this machine, as far as they explain a measurement.

No host name, user, address or serial number: reports are meant to be shown around.
"""

from __future__ import annotations

import os
import platform
from pathlib import Path

import numpy as np

from edgedistill import __version__

_CPUINFO = Path("/proc/cpuinfo")
_MODEL = Path("/proc/device-tree/model")  # a board's name, ends with a NUL
_TEGRA = Path("/etc/nv_tegra_release")  # NVIDIA Jetson: release of its Linux
_RUNTIMES = ("onnxruntime", "onnxruntime-gpu", "tensorrt", "tensorrt-rtx")


def environment() -> dict[str, str]:
    """Return versions and hardware, name to text; unavailable ones are left out."""
    found = {
        "edgedistill": __version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        **{name: version for name in _RUNTIMES if (version := _installed(name))},
        "system": f"{platform.system()} {platform.release()}",
        "machine": platform.machine(),
        "cpu": _cpu(),
        "cores": str(cores()),
        "board": _first_line(_MODEL),
        "jetson": _first_line(_TEGRA),
    }
    return {name: text for name, text in found.items() if text}


def cores() -> int:
    """Return the cores this process may use, which a container can limit."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _installed(name: str) -> str:
    from importlib import metadata  # slow, and not needed for the cores

    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


def _cpu() -> str:
    """Return the CPU's name; ARM kernels give none, so their part number stands in."""
    try:
        lines = _CPUINFO.read_text("utf-8", errors="replace").splitlines()
    except OSError:
        return platform.processor()
    facts = dict(line.split(":", 1) for line in lines if ":" in line)
    facts = {key.strip(): value.strip() for key, value in facts.items()}
    if "model name" in facts:
        return facts["model name"]
    return f"ARM part {facts['CPU part']}" if "CPU part" in facts else platform.processor()


def _first_line(path: Path) -> str:
    try:
        return path.read_text("utf-8", errors="replace").partition("\n")[0].strip("\0 \t#")
    except OSError:
        return ""
