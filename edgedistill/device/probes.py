"""Whether a package really works here: each is tried in a process of its own.

A wheel for another processor ends the process that imports it, and some import well and end it at
the first session; so a version in a list proves nothing. Standard library only, because NumPy
itself may be what is missing.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from importlib import metadata
from typing import Any, Final

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
found = {"version": tensorrt.__version__}
"""
_CUDA_BINDINGS = """
from importlib import metadata
from cuda.bindings import runtime
error, version = runtime.cudaRuntimeGetVersion()
found = {"version": metadata.version("cuda-bindings")}
"""
_NUMPY = """
import numpy
found = {"version": numpy.__version__}
"""
# The driver's own library: it is there wherever a GPU can be used, Jetson or not.
_GPU = """
import ctypes
cuda = ctypes.CDLL("libcuda.so.1")
def ask(name, *arguments):
    code = getattr(cuda, name)(*arguments)
    if code:
        raise OSError(f"{name} answers {code}")
ask("cuInit", 0)
device, driver, major, minor = (ctypes.c_int() for _ in range(4))
memory, name = ctypes.c_size_t(), ctypes.create_string_buffer(256)
ask("cuDeviceGet", ctypes.byref(device), 0)
ask("cuDeviceGetName", name, 256, device)
ask("cuDeviceTotalMem_v2", ctypes.byref(memory), device)
ask("cuDeviceGetAttribute", ctypes.byref(major), 75, device)
ask("cuDeviceGetAttribute", ctypes.byref(minor), 76, device)
ask("cuDriverGetVersion", ctypes.byref(driver))
found = {
    "name": name.value.decode(errors="replace"),
    "compute_capability": f"{major.value}.{minor.value}",
    "memory_mib": memory.value >> 20,
    "cuda": f"{driver.value // 1000}.{driver.value % 1000 // 10}",
}
"""
_PROBES: Final = {
    "numpy": (_NUMPY, ("numpy",)),
    "onnxruntime": (_ONNXRUNTIME, ("onnxruntime", "onnxruntime-gpu")),
    "tensorrt": (_TENSORRT, ("tensorrt",)),
    "cuda-bindings": (_CUDA_BINDINGS, ("cuda-bindings",)),
}


def packages() -> dict[str, dict[str, Any]]:
    """Return what each package is that a program of ours can use.

    Returns:
        By name: `version`, or None if it is not installed; `works`, whether it could be used;
        `error`, why not, or ""; for ONNX Runtime also its `providers`.
    """
    return {name: _probe_package(*probe) for name, probe in _PROBES.items()}


def gpu() -> dict[str, Any] | None:
    """Return the name, abilities and memory of the first GPU that CUDA has; None: it has none."""
    found, _ = _run_script(_GPU)
    return found


def _probe_package(script: str, distributions: tuple[str, ...]) -> dict[str, Any]:
    found, error = _run_script(script)
    if found is not None:
        return {**found, "works": True, "error": ""}
    return {"version": _installed(distributions), "works": False, "error": error}


def _installed(distributions: tuple[str, ...]) -> str | None:
    found = {each.metadata["Name"]: each.version for each in metadata.distributions()}
    return next((found[name] for name in distributions if name in found), None)


def _run_script(script: str) -> tuple[dict[str, Any] | None, str]:
    """Run a script in a process of its own; return what it found, or why it found nothing."""
    code = f"{script}\nimport json\nprint(json.dumps(found))"
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
        return None, last
    found: dict[str, Any] = json.loads(last)
    return found, ""


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
