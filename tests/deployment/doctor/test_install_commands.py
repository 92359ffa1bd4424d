"""The commands are those that work on that board."""

from __future__ import annotations

import pytest

from edgedistill import targets
from edgedistill.deployment.doctor import install_commands as installing


def _commands(facts, name="onnxruntime", bounds=">=1.20", target="aarch64"):
    return installing.package(facts, targets.load(target), name, bounds)


def test_a_managed_python_gets_an_environment(pi):
    """Its pip would refuse; the environment lies beside the releases."""
    facts = pi()

    assert _commands(facts) == (
        "/usr/bin/python3 -m venv --system-site-packages /home/pi/edgedistill/venv",
        "/home/pi/edgedistill/venv/bin/python -m pip install 'onnxruntime>=1.20'",
    )
    assert installing.advice(facts, "onnxruntime", None) == (
        "Then deploy with --python /home/pi/edgedistill/venv/bin/python."
    )


def test_debian_packs_what_makes_environments_apart(pi):
    """Without it, the first command installs it."""
    first = _commands(pi(python__venv=False))[0]

    assert first.startswith("sudo apt-get update && ")
    assert first.endswith("python3-venv")


@pytest.mark.parametrize(("pip", "count"), [(True, 1), (False, 2)])
def test_any_other_python_uses_its_own_pip(orin, pip, count):
    """Or gets one first."""
    commands = _commands(orin(python__pip=pip), "numpy", ">=1.21.6")

    assert len(commands) == count
    assert commands[-1] == "/usr/bin/python3 -m pip install 'numpy>=1.21.6'"
    assert installing.advice(orin(), "numpy", None) == ""


@pytest.mark.parametrize(
    ("python", "emulated", "wanted"),
    [
        ("3.10.12", False, "onnxruntime==1.23.2"),
        ("3.10.12", True, "onnxruntime==1.23.2"),
        ("3.11.2", True, "onnxruntime==1.26.0"),
        ("3.11.2", False, "'onnxruntime>=1.20'"),
    ],
)
def test_the_release_is_one_that_runs_there(pi, python, emulated, wanted):
    """The newest has no wheel for Python 3.10 and crashes under emulation."""
    facts = pi(python__version=python, python__managed=False, emulated=emulated)

    assert _commands(facts) == (f"/usr/bin/python3 -m pip install {wanted}",)


def test_a_release_that_the_bounds_exclude_is_not_named(pi):
    """What is needed wins over what is usually taken."""
    facts = pi(python__version="3.10.12", python__managed=False)

    (command,) = _commands(facts, bounds=">=1.25")

    assert command.endswith("'onnxruntime>=1.25'")


def test_tensorrt_comes_with_jetpack(orin):
    """PyPI's would not fit the board's CUDA."""
    (command,) = _commands(orin(), "tensorrt", ">=10.3", "jetson-orin")

    assert command.endswith("tensorrt python3-libnvinfer")


def test_no_command_installs_what_no_index_has(pi):
    """PyPI has no TensorRT for Arm; a board that is no Jetson gets advice."""
    assert _commands(pi(), "tensorrt", ">=10.3") == ()
    assert "no TensorRT for aarch64" in installing.advice(pi(), "tensorrt", None)

    desk = pi(machine="x86_64", python__managed=False)
    (command,) = _commands(desk, "tensorrt", ">=10.3", "x86-64")
    assert command.endswith("'tensorrt>=10.3'")


def test_a_path_with_a_blank_is_quoted(pi):
    """A command is pasted into a shell."""
    first, second = _commands(pi(disk__folder="/mnt/my disk"))

    assert first.endswith("'/mnt/my disk/venv'")
    assert second.startswith("'/mnt/my disk/venv'/bin/python")
