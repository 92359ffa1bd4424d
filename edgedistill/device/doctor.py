"""Facts of this machine that deployment depends on: hardware, system, packages.

The workstation compares them with the needs of the target. Each package is probed in a process of
its own: a wheel for another processor ends the process that imports it, and some import well and
end it at the first session, so a version in a list proves nothing. Standard library only, so that
a board without NumPy can report that. Unlike a report, the facts hold paths.
"""

from __future__ import annotations

import ctypes
import grp
import importlib.util
import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
from importlib import metadata
from pathlib import Path
from typing import Any, Final

from edgedistill import __version__
from edgedistill.device.sensors import Sensors
from edgedistill.errors import MachineError

FORMAT: Final = "edgedistill.facts/1"
_HOME: Final = str(Path(__file__).parents[2])  # of this package: a folder, or the zipapp
_MIB: Final = 1 << 20
_NO_LIMIT: Final = 1 << 60  # at or above it, cgroup v1 means no limit
_CLOCK_ERROR: Final = 5  # TIME_ERROR of adjtimex: the clock is not synchronized
_SYSTEM_PACKAGES: Final = (
    *("nvidia-jetpack", "nvidia-l4t-core", "tensorrt", "libnvinfer10", "python3-libnvinfer"),
    *("python3-numpy", "python3-pip", "python3-venv", "openssh-client"),
)
TIMEOUT_S: Final = 60.0
# ONNX's Identity of one number, opset 13, IR 8: the least that a session can run.
IDENTITY: Final = (
    "CAg6NwoQCgF4EgF5IghJZGVudGl0eRIBZ1oPCgF4EgoKCAgBEgQKAggBYg8KAXkSCgoICAESBAoCCAFCBAoAEA0="
)
_ONNXRUNTIME = f"""
import base64, numpy, onnxruntime
session = onnxruntime.InferenceSession(
    base64.b64decode("{IDENTITY}"), providers=["CPUExecutionProvider"]
)
session.run(None, {{"x": numpy.ones(1, numpy.float32)}})
found = {{
    "version": onnxruntime.__version__, "providers": onnxruntime.get_available_providers()
}}
"""
_TENSORRT = """
import tensorrt
from edgedistill.runtimes.tensorrt.bindings import load_tensorrt, make_runtime
make_runtime(load_tensorrt())
found = {"version": tensorrt.__version__}
"""
_NUMPY = """
import numpy
found = {"version": numpy.__version__}
"""
_GPU = """
from dataclasses import asdict
from edgedistill.runtimes.tensorrt.cuda_driver import cuda_version, find_gpu, free_mib
found = {**asdict(find_gpu()), "cuda": cuda_version(), "free_mib": free_mib()}
"""
_PROBES: Final = {
    "numpy": (_NUMPY, ("numpy",)),
    "onnxruntime": (_ONNXRUNTIME, ("onnxruntime", "onnxruntime-gpu")),
    "tensorrt": (_TENSORRT, ("tensorrt",)),
}


def facts(folder: Path, *, root: Path = Path("/")) -> dict[str, Any]:
    """Return the facts of this machine.

    Args:
        folder: folder of the releases, present or future.
        root: folder of /proc, /sys and /etc; another one than / in tests only.

    Returns:
        JSON-able; an unavailable value is None or "". Memory and disk are in MiB.
    """
    gpu_facts, gpu_error = gpu()
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
        "groups": _groups(),
        "python": _python(),
        "packages": packages(),
        "gpu": gpu_facts,
        "gpu_error": gpu_error,
        "cores": _cores(),
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


def packages() -> dict[str, dict[str, Any]]:
    """Return version and state of each package that the device program can use.

    Returns:
        By name: `version`, or None if it is not installed; `works`, whether it could be used;
        `error`, why not, or ""; for ONNX Runtime also its `providers`.
    """
    return {name: _probe_package(*probe) for name, probe in _PROBES.items()}


def gpu() -> tuple[dict[str, Any] | None, str]:
    """Use the GPU: find it, make its context, and look at its memory.

    Returns:
        Its name, abilities and memory, and the newest CUDA of the driver; None if it cannot be
        used, with the reason in the driver's words.
    """
    return _run_script(_GPU)


def _board(root: Path) -> dict[str, Any]:
    settings = Sensors(root).settings()
    modes = _text(root / "etc/nvpmodel.conf")
    return {
        "board": _text(root / "proc/device-tree/model"),
        "compatible": _text(root / "proc/device-tree/compatible"),
        "jetson_linux": jetson_linux(_text(root / "etc/nv_tegra_release")),
        "power_mode": settings.get("power mode", ""),
        "power_modes": re.findall(r"POWER_MODEL\s+ID=\d+\s+NAME=(\S+)", modes),
        "governor": settings.get("CPU governor", ""),
        "gpu_clock_mhz": Sensors(root).gpu_clock_range(),
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
    """Return whether the processor is emulated: a real Arm one has no vendor_id."""
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


def _groups() -> list[str]:
    """Return the groups of the user; those without a name by number."""
    names = {group.gr_gid: group.gr_name for group in grp.getgrall()}
    return sorted(names.get(number, str(number)) for number in {os.getegid(), *os.getgroups()})


def _cores() -> int | None:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def _memory(root: Path) -> dict[str, int | None]:
    rows = dict(re.findall(r"^(\w+):\s+(\d+) kB", _text(root / "proc/meminfo"), re.MULTILINE))
    kib = {name: rows.get(row) for name, row in (("total", "MemTotal"), ("free", "MemAvailable"))}
    return {name: None if value is None else int(value) // 1024 for name, value in kib.items()}


def _cgroup(root: Path) -> dict[str, float | None]:
    """Return the container's limits of memory and CPUs; None: no limit."""
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
    """Return free space and permission at `folder`, or at its nearest existing parent."""
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
    """Return whether the clock is synchronized, from the kernel; None: not available."""
    try:
        state = ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(512))  # zeros: read only
    except (OSError, AttributeError):
        return None
    return None if state < 0 else state != _CLOCK_ERROR


def _text(path: Path) -> str:
    """Return a small file's text on one or more lines; the device tree parts with NULs."""
    try:
        return path.read_text("utf-8", errors="replace").strip("\0 \t\n").replace("\0", " ")
    except OSError:
        return ""


def _probe_package(script: str, distributions: tuple[str, ...]) -> dict[str, Any]:
    found, error = _run_script(script)
    if found is not None:
        return {**found, "works": True, "error": ""}
    return {"version": _installed(distributions), "works": False, "error": error}


def _installed(distributions: tuple[str, ...]) -> str | None:
    found = {each.metadata["Name"]: each.version for each in metadata.distributions()}
    return next((found[name] for name in distributions if name in found), None)


def _run_script(script: str) -> tuple[dict[str, Any] | None, str]:
    """Run a script in a process of its own; return its result, or the reason for none."""
    first = f"import sys\nsys.path.insert(0, {_HOME!r})"
    code = f"{first}\n{script}\nimport json\nprint(json.dumps(found))"
    try:
        done = subprocess.run(  # noqa: S603  # this interpreter, and a script of ours
            [sys.executable, "-c", code], capture_output=True, timeout=TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired:
        return None, f"it did not answer within {TIMEOUT_S:g} s"
    told = (done.stderr if done.returncode else done.stdout).decode(errors="replace")
    last = told.strip().rpartition("\n")[2]
    if done.returncode < 0:
        why = f"it ended the process ({_signal(-done.returncode)})"
        return None, f"{why}: {last}" if last else why
    if done.returncode:
        return None, last.removeprefix(f"{MachineError.__module__}.{MachineError.__name__}: ")
    found: dict[str, Any] = json.loads(last)
    return found, ""


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
