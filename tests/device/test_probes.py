"""A package is there only if it works: each is tried in a process of its own."""

from __future__ import annotations

import base64
import shutil
import subprocess
import sys

import numpy as np
import onnx
import onnxruntime
import pytest

from edgedistill.device import probes

_LIBCUDA = """
#include <string.h>
int cuInit(unsigned flags) { return FAILS; }
int cuDeviceGet(int *device, int ordinal) { *device = 7; return 0; }
int cuDeviceGetName(char *name, int length, int device) { strncpy(name, "Orin", length); return 0; }
int cuDeviceTotalMem_v2(size_t *bytes, int device) { *bytes = (size_t)8 << 30; return 0; }
int cuDeviceGetAttribute(int *value, int which, int device) {
    *value = which == 75 ? 8 : which == 76 ? 7 : -1; return 0;
}
int cuDriverGetVersion(int *version) { *version = 12060; return 0; }
"""


@pytest.fixture
def shadow(tmp_path, monkeypatch):
    """Put a module of another content before the installed one."""

    def put(name, source):
        (tmp_path / f"{name}.py").write_text(source)
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    return put


def test_what_works_here_is_told_with_its_version():
    """NumPy and ONNX Runtime of this process are those of the child."""
    found = probes.packages()

    assert found["numpy"] == {"version": np.__version__, "works": True, "error": ""}
    runtime = found["onnxruntime"]
    assert (runtime["version"], runtime["works"]) == (onnxruntime.__version__, True)
    assert "CPUExecutionProvider" in runtime["providers"]


def test_the_probe_runs_a_model():
    """The model in the probe is the least that a session can run: Identity of one number."""
    model = onnx.load_from_string(base64.b64decode(probes.IDENTITY))

    onnx.checker.check_model(model)
    assert [node.op_type for node in model.graph.node] == ["Identity"]


def test_what_is_not_installed_has_no_version(shadow):
    """It is told why."""
    shadow("tensorrt", "raise ModuleNotFoundError(\"No module named 'tensorrt'\")")

    found = probes.packages()["tensorrt"]

    assert found["works"] is False
    assert "No module named 'tensorrt'" in found["error"]


def test_a_package_that_ends_the_process_is_told_by_its_signal(shadow):
    """A wheel for another processor does; its version is still known."""
    shadow("numpy", "import os, signal; os.kill(os.getpid(), signal.SIGILL)")

    found = probes.packages()["numpy"]

    assert found["works"] is False
    assert found["error"] == "it ended the process (SIGILL)"
    assert found["version"] == np.__version__


def test_a_package_that_never_answers_is_given_up(shadow, monkeypatch):
    """A driver that hangs must not hang the doctor."""
    shadow("numpy", "import time; time.sleep(60)")
    monkeypatch.setattr(probes, "TIMEOUT_S", 0.5)

    found, error = probes._run_script(probes._NUMPY)

    assert found is None
    assert error == "it did not answer within 0.5 s"


@pytest.mark.parametrize("fails", [0, 100])
def test_a_gpu_is_told_by_the_driver(tmp_path, monkeypatch, fails):
    """The driver's own library is asked; where it has no device there is no GPU."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("there is no C compiler to make a driver with")
    (tmp_path / "cuda.c").write_text(_LIBCUDA.replace("FAILS", str(fails)))
    library = tmp_path / "libcuda.so.1"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, tmp_path / "cuda.c"], check=True)
    monkeypatch.setenv("LD_LIBRARY_PATH", str(tmp_path))

    found = probes.gpu()

    expected = {"name": "Orin", "compute_capability": "8.7", "memory_mib": 8192, "cuda": "12.6"}
    assert found == (None if fails else expected)


def test_nothing_but_the_standard_library_is_needed():
    """A board without NumPy must be able to say so."""
    script = "import sys; import edgedistill.device.doctor; print('numpy' in sys.modules)"

    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )

    assert done.stdout == "False\n"
