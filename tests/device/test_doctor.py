"""The facts of a machine: read where they stand, and nothing made up."""

from __future__ import annotations

import base64
import grp
import json
import os
import platform
import subprocess
import sys
import time

import numpy as np
import onnx
import onnxruntime
import pytest

from edgedistill.device import doctor
from edgedistill.device.__main__ import main


@pytest.fixture
def put(tmp_path):
    """Write a file below a root of one's own."""

    def write(path, text):
        file = tmp_path / "root" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    (tmp_path / "root").mkdir()
    return write


@pytest.fixture
def facts(tmp_path, monkeypatch):
    """Ask for the facts below that root, without trying packages."""
    monkeypatch.setattr(doctor, "packages", dict)
    monkeypatch.setattr(doctor, "gpu", lambda: (None, ""))
    return lambda: doctor.facts(tmp_path / "releases", root=tmp_path / "root")


def test_doctor_command_prints_this_machines_facts(capsys, tmp_path):
    """As JSON for the workstation: what is asked elsewhere is the same."""
    code = main(["doctor", "--root", str(tmp_path / "a" / "b"), "--json"])

    found = json.loads(capsys.readouterr().out)
    assert code == 0
    assert found["format"] == doctor.FORMAT
    assert found["machine"] == platform.machine()
    assert set(found["groups"]) >= {grp.getgrgid(os.getegid()).gr_name}
    assert found["python"]["version"] == platform.python_version()
    assert found["packages"]["onnxruntime"]["works"] is True
    assert abs(found["clock"]["seconds"] - time.time()) < 60
    assert found["disk"]["folder"] == str(tmp_path / "a" / "b")
    assert found["disk"]["free_mib"] > 0
    assert found["memory_mib"]["total"] > found["memory_mib"]["free"] > 0


def test_a_person_gets_a_table(capsys, tmp_path):
    """Nested facts are lines of their own."""
    main(["doctor", "--root", str(tmp_path)])

    out = capsys.readouterr().out
    assert "python: version" in out
    assert "packages: numpy: works" in out


def test_facts_of_a_jetson(facts, put):
    """Board, chip, release of its system, power mode and those that there are."""
    put("proc/device-tree/model", "NVIDIA Jetson Orin Nano Developer Kit\0")
    put("proc/device-tree/compatible", "nvidia,p3768-0000\0nvidia,tegra234\0")
    put("etc/nv_tegra_release", "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic\n")
    put("etc/nvpmodel.conf", "< POWER_MODEL ID=0 NAME=15W >\n< POWER_MODEL ID=1 NAME=25W >\n")
    put("var/lib/nvpmodel/status", "pmode:0001 fmode:quiet")
    put("sys/devices/system/cpu/cpufreq/policy0/scaling_governor", "schedutil\n")
    put("sys/class/devfreq/17000000.gpu/min_freq", "306000000\n")
    put("sys/class/devfreq/17000000.gpu/max_freq", "1020000000\n")

    found = facts()

    assert found["board"] == "NVIDIA Jetson Orin Nano Developer Kit"
    assert found["compatible"] == "nvidia,p3768-0000 nvidia,tegra234"
    assert found["jetson_linux"] == "36.4.3"
    assert found["power_mode"].startswith("25W")
    assert found["power_modes"] == ["15W", "25W"]
    assert found["governor"] == "schedutil"
    assert found["gpu_clock_mhz"] == (306.0, 1020.0)


def test_a_machine_without_such_files_leaves_them_empty(facts):
    """Nothing is made up."""
    found = facts()

    names = (
        *("board", "compatible", "jetson_linux", "power_mode", "power_modes", "governor"),
        "gpu_clock_mhz",
    )
    assert not any(found[name] for name in names)
    assert found["memory_mib"] == {"total": None, "free": None}
    assert found["cgroup"] == {"memory_mib": None, "cpus": None}


def test_memory_is_read_in_mib(facts, put):
    """The kernel counts in KiB."""
    put("proc/meminfo", "MemTotal:       8388608 kB\nMemFree: 1 kB\nMemAvailable:   1048576 kB\n")

    assert facts()["memory_mib"] == {"total": 8192, "free": 1024}


def test_tightest_container_limit_applies(facts, put):
    """A group above this process's own may be tighter."""
    put("proc/self/cgroup", "0::/app/inner\n")
    put("sys/fs/cgroup/app/inner/memory.max", "max\n")
    put("sys/fs/cgroup/app/inner/cpu.max", "max 100000\n")
    put("sys/fs/cgroup/app/memory.max", f"{512 << 20}\n")
    put("sys/fs/cgroup/app/cpu.max", "150000 100000\n")

    assert facts()["cgroup"] == {"memory_mib": 512, "cpus": 1.5}


def test_cgroup_v1_limit_applies(facts, put):
    """Version 1 of the groups says a huge number where there is no limit."""
    put("sys/fs/cgroup/memory/memory.limit_in_bytes", f"{256 << 20}\n")
    assert facts()["cgroup"]["memory_mib"] == 256

    put("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n")
    assert facts()["cgroup"]["memory_mib"] is None


@pytest.mark.parametrize(
    ("machine", "cpuinfo", "emulated"),
    [
        ("aarch64", "vendor_id\t: GenuineIntel\n", True),
        ("aarch64", "CPU implementer\t: 0x41\n", False),
        ("x86_64", "vendor_id\t: GenuineIntel\n", False),
    ],
)
def test_an_emulator_is_noticed(facts, put, monkeypatch, machine, cpuinfo, emulated):
    """An Arm program that sees an Intel processor does not run on Arm."""
    monkeypatch.setattr(platform, "machine", lambda: machine)
    put("proc/cpuinfo", cpuinfo)

    assert facts()["emulated"] is emulated


def test_a_file_where_the_folder_should_be_is_not_writable(tmp_path, facts):
    """Releases cannot lie in a file."""
    (tmp_path / "releases").write_text("")

    assert facts()["disk"]["writable"] is False


def test_a_managed_python_is_noticed(tmp_path):
    """PEP 668: the distribution's Python refuses pip, unless in an environment of its own."""
    script = (
        "import json, sysconfig\n"
        f"sysconfig.get_path = lambda name: {str(tmp_path)!r}\n"
        "import sys\n"
        "from edgedistill.device import doctor\n"
        "before = doctor._python()['managed']\n"
        "sys.prefix = sys.base_prefix\n"
        "print(json.dumps([before, doctor._python()['managed']]))"
    )
    (tmp_path / "EXTERNALLY-MANAGED").touch()

    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )

    assert json.loads(done.stdout) == [sys.prefix == sys.base_prefix, True]


@pytest.fixture
def shadow(tmp_path, monkeypatch):
    """Put a module of another content before the installed one."""

    def put(name, source):
        (tmp_path / f"{name}.py").write_text(source)
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    return put


def test_working_packages_have_a_version():
    """NumPy and ONNX Runtime of this process are those of the child."""
    found = doctor.packages()

    assert found["numpy"] == {"version": np.__version__, "works": True, "error": ""}
    runtime = found["onnxruntime"]
    assert (runtime["version"], runtime["works"]) == (onnxruntime.__version__, True)
    assert "CPUExecutionProvider" in runtime["providers"]


def test_the_probe_runs_a_model():
    """The model in the probe is the least that a session can run: Identity of one number."""
    model = onnx.load_from_string(base64.b64decode(doctor.IDENTITY))

    onnx.checker.check_model(model)
    assert [node.op_type for node in model.graph.node] == ["Identity"]


def test_what_is_not_installed_has_no_version(shadow):
    """It is told why."""
    shadow("tensorrt", "raise ModuleNotFoundError(\"No module named 'tensorrt'\")")

    found = doctor.packages()["tensorrt"]

    assert found["works"] is False
    assert "No module named 'tensorrt'" in found["error"]


def test_package_that_kills_the_process_is_reported_with_its_signal(shadow):
    """A wheel for another processor does; its version is still known."""
    shadow("numpy", "import os, signal; os.kill(os.getpid(), signal.SIGILL)")

    found = doctor.packages()["numpy"]

    assert found["works"] is False
    assert found["error"] == "it ended the process (SIGILL)"
    assert found["version"] == np.__version__


def test_package_that_hangs_times_out(shadow, monkeypatch):
    """A driver that hangs must not hang the doctor."""
    shadow("numpy", "import time; time.sleep(60)")
    monkeypatch.setattr(doctor, "TIMEOUT_S", 0.5)

    found, error = doctor._run_script(doctor._NUMPY)

    assert found is None
    assert error == "it did not answer within 0.5 s"


def test_gpu_facts_come_from_the_driver(libcuda, monkeypatch):
    """A process of its own uses the GPU as an engine would, with the driver's own library."""
    monkeypatch.setenv("LD_LIBRARY_PATH", str(libcuda.parent))
    monkeypatch.setenv("STANDIN_DEVICES", "1")

    assert doctor.gpu() == (
        {
            "name": "Orin",
            "compute_capability": "8.7",
            "multiprocessors": 8,
            "memory_mib": 8192,
            "shares_memory": False,
            "cuda": "12.6",
            "free_mib": 1024,
        },
        "",
    )


@pytest.mark.parametrize(
    ("call", "error"),
    [
        ("cuInit", "CUDA's cuInit fails: no CUDA-capable device is detected (CUDA_ERROR_NO_DEVICE"),
        ("cuDevicePrimaryCtxRetain", "CUDA's cuDevicePrimaryCtxRetain fails: no CUDA-capable"),
    ],
)
def test_a_gpu_that_cannot_be_used_is_reported_in_the_drivers_words(
    libcuda, monkeypatch, call, error
):
    """That there is a driver, or even a device, proves nothing."""
    monkeypatch.setenv("LD_LIBRARY_PATH", str(libcuda.parent))
    monkeypatch.setenv("STANDIN_DEVICES", "1")
    monkeypatch.setenv("STANDIN_FAILS", call)

    found, said = doctor.gpu()

    assert found is None
    assert said.startswith(error)


def test_a_machine_without_a_driver_says_so(monkeypatch):
    """Where there is a GPU, it is named."""
    found, said = doctor.gpu()

    assert found is not None or said.startswith(("NVIDIA's driver cannot", "CUDA's cuInit fails"))


_TENSORRT = """
from types import SimpleNamespace
__version__ = "10.3.0"
class ILogger:
    Severity = SimpleNamespace(INTERNAL_ERROR=0, ERROR=1, WARNING=2)
class Runtime:
    def __init__(self, log):
        if FAILS:
            log.log(1, "CUDA initialization failure with error: 35")
            raise TypeError("pybind11::init(): factory function returned nullptr")
"""


@pytest.mark.parametrize("fails", [False, True])
def test_tensorrt_works_if_its_runtime_can_be_made(shadow, fails):
    """It imports well without a GPU, or with a driver that is too old for it."""
    shadow("tensorrt", _TENSORRT.replace("FAILS", str(fails)))

    found = doctor.packages()["tensorrt"]

    assert found["works"] is not fails
    assert ("cannot use this GPU: CUDA initialization failure" in found["error"]) is fails


def test_nothing_but_the_standard_library_is_needed():
    """A board without NumPy must be able to say so."""
    script = "import sys; import edgedistill.device.doctor; print('numpy' in sys.modules)"

    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )

    assert done.stdout == "False\n"
