"""What this machine is and has, as far as deployment depends on it: facts, and no judgement.

The workstation compares them with what a board of the family needs. Standard library only, so that
a board without NumPy can say so. Unlike a report, the facts are for the person who deploys:
they hold paths.
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
import time
from pathlib import Path
from typing import Any, Final

from edgedistill import __version__
from edgedistill.device import probes
from edgedistill.device.sensors import Sensors

FORMAT: Final = "edgedistill.facts/1"
_MIB: Final = 1 << 20
_NO_LIMIT: Final = 1 << 60  # what cgroup v1 says instead of nothing, or more
_CLOCK_ERROR: Final = 5  # TIME_ERROR of adjtimex: the clock is not synchronized
_SYSTEM_PACKAGES: Final = (
    *("nvidia-jetpack", "nvidia-l4t-core", "tensorrt", "libnvinfer10", "python3-libnvinfer"),
    *("python3-numpy", "python3-pip", "python3-venv", "openssh-client"),
)


def facts(folder: Path, *, root: Path = Path("/")) -> dict[str, Any]:
    """Return what this machine is and has.

    Args:
        folder: where releases are, or will be.
        root: where /proc, /sys and /etc are; another one than / in tests only.

    Returns:
        JSON-able; what cannot be found out is None or "". Memory and disk are in MiB.
    """
    return {
        "format": FORMAT,
        "edgedistill": __version__,
        "machine": platform.machine(),
        "kernel": f"{platform.system()} {platform.release()}",
        "distribution": _distribution(),
        "glibc": _glibc(),
        "emulated": _emulated(root),
        **_board(root),
        "system_packages": _system_packages(),
        "python": _python(),
        "packages": probes.packages(),
        "gpu": probes.gpu(),
        "cores": len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count(),
        "memory_mib": _memory(root),
        "cgroup": _cgroup(root),
        "disk": _disk(folder),
        "ssh_keygen": shutil.which("ssh-keygen"),
        "clock": {"seconds": int(time.time()), "synchronized": _synchronized()},
    }


def jetson_linux(release: str) -> str:
    """Return the version in /etc/nv_tegra_release, "" if there is none.

    >>> jetson_linux("# R36 (release), REVISION: 4.3, GCID: 1, BOARD: generic")
    '36.4.3'
    """
    found = re.search(r"R(\d+) \(release\), REVISION: ([\d.]+)", release)
    return f"{found[1]}.{found[2]}" if found else ""


def _board(root: Path) -> dict[str, Any]:
    settings = Sensors(root).settings()
    modes = _text(root / "etc/nvpmodel.conf")
    return {
        "board": _text(root / "proc/device-tree/model"),
        "compatible": _text(root / "proc/device-tree/compatible"),
        "jetson_linux": jetson_linux(_text(root / "etc/nv_tegra_release")),
        "power_mode": settings.get("power mode", ""),
        "power_modes": re.findall(r"POWER_MODEL\s+ID=\d+\s+NAME=(\S+)", modes),
        "governor": settings.get("cpu governor", ""),
    }


def _distribution() -> str:
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME", "")
    except OSError:
        return ""


def _glibc() -> str:
    """Return the C library's version; "" if it is not GNU's, for which no wheels are made."""
    try:
        return (os.confstr("CS_GNU_LIBC_VERSION") or "").removeprefix("glibc ")
    except (ValueError, OSError):
        return ""


def _emulated(root: Path) -> bool:
    """Say whether another processor runs this program: an Arm one has no vendor_id."""
    return platform.machine() == "aarch64" and "vendor_id" in _text(root / "proc/cpuinfo")


def _system_packages() -> dict[str, str]:
    """Return the versions of the distribution's packages that matter here; {} if not Debian's."""
    ask = shutil.which("dpkg-query")
    if ask is None:
        return {}
    done = subprocess.run(  # noqa: S603  # Debian's own tool
        [ask, "-W", "-f", "${Package} ${Version} ${db:Status-Status}\n", *_SYSTEM_PACKAGES],
        capture_output=True,
        text=True,
        check=False,  # it fails when one of them is unknown, and lists the others
    )
    rows = (line.split() for line in done.stdout.splitlines())
    return {row[0]: row[1] for row in rows if row[2:] == ["installed"]}


def _python() -> dict[str, Any]:
    virtual = sys.prefix != sys.base_prefix
    marker = Path(sysconfig.get_path("stdlib")) / "EXTERNALLY-MANAGED"
    return {
        "version": platform.python_version(),
        "executable": sys.executable,
        "virtual": virtual,
        "managed": marker.exists() and not virtual,  # PEP 668: its pip refuses to install
        "pip": importlib.util.find_spec("pip") is not None,
        "venv": importlib.util.find_spec("ensurepip") is not None,  # Debian packs it apart
    }


def _cores() -> int | None:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def _memory(root: Path) -> dict[str, int | None]:
    rows = dict(re.findall(r"^(\w+):\s+(\d+) kB", _text(root / "proc/meminfo"), re.MULTILINE))
    kib = {name: rows.get(row) for name, row in (("total", "MemTotal"), ("free", "MemAvailable"))}
    return {name: None if value is None else int(value) // 1024 for name, value in kib.items()}


def _cgroup(root: Path) -> dict[str, float | None]:
    """Return what a container may use of memory and CPUs; None: there is no limit."""
    base = root / "sys/fs/cgroup"
    own = re.search(r"^0::/(.*)$", _text(root / "proc/self/cgroup"), re.MULTILINE)
    here = base / own[1] if own else base
    folders = [here, *(parent for parent in here.parents if parent.is_relative_to(base))]
    limits = [_text(folder / "memory.max") for folder in folders]
    limits.append(_text(base / "memory/memory.limit_in_bytes"))  # version 1
    sizes = [int(text) for text in limits if text.isdecimal() and int(text) < _NO_LIMIT]
    quotas = [_text(folder / "cpu.max").split() for folder in folders]
    shares = [int(q[0]) / int(q[1]) for q in quotas if len(q) == 2 and q[0].isdecimal()]
    return {
        "memory_mib": min(sizes) // _MIB if sizes else None,
        "cpus": min(shares) if shares else None,
    }


def _disk(folder: Path) -> dict[str, Any]:
    """Return the place below which `folder` lies or will be made."""
    place = folder.expanduser().absolute()
    while not place.exists():
        place = place.parent
    found = os.statvfs(place)
    return {
        "folder": str(folder.expanduser().absolute()),
        "free_mib": found.f_bavail * found.f_frsize // _MIB,
        "writable": place.is_dir() and os.access(place, os.W_OK),
    }


def _synchronized() -> bool | None:
    """Say whether something keeps the clock right, as the kernel knows; None: it does not tell."""
    try:
        state = ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(512))  # zeros: only asks
    except (OSError, AttributeError):
        return None
    return None if state < 0 else state != _CLOCK_ERROR


def _text(path: Path) -> str:
    """Return a small file's text on one or more lines; the device tree parts with NULs."""
    try:
        return path.read_text("utf-8", errors="replace").strip("\0 \t\n").replace("\0", " ")
    except OSError:
        return ""
