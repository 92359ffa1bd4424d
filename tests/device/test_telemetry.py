"""What a report says about the machine, and what it keeps to itself."""

from __future__ import annotations

import getpass
import os
import platform

import numpy as np

from edgedistill.device import telemetry


def test_names_versions_and_hardware():
    """What explains a latency is there, as text."""
    found = telemetry.environment()

    assert found["numpy"] == np.__version__
    assert found["machine"] == platform.machine()
    assert 1 <= int(found["cores"]) <= (os.cpu_count() or 1)
    assert found["onnxruntime"].startswith("1.")
    assert all(isinstance(text, str) and text for text in found.values())


def test_keeps_host_and_user_to_itself():
    """Reports are shown around, so neither name is in them."""
    words = " ".join(telemetry.environment().values()).split()

    assert platform.node() not in words
    assert getpass.getuser() not in words


def test_reads_a_jetson_and_an_arm_cpu(tmp_path, monkeypatch):
    """The files that such boards have give the board's name, its release and the core's part."""
    (tmp_path / "cpuinfo").write_text("processor\t: 0\nCPU part\t: 0xd42\n")
    (tmp_path / "model").write_bytes(b"NVIDIA Jetson AGX Orin\0")
    (tmp_path / "tegra").write_text("# R36 (release), REVISION: 4.3\n# KERNEL_VARIANT: oot\n")
    monkeypatch.setattr(telemetry, "_CPUINFO", tmp_path / "cpuinfo")
    monkeypatch.setattr(telemetry, "_MODEL", tmp_path / "model")
    monkeypatch.setattr(telemetry, "_TEGRA", tmp_path / "tegra")

    found = telemetry.environment()

    assert found["cpu"] == "ARM part 0xd42"
    assert found["board"] == "NVIDIA Jetson AGX Orin"
    assert found["jetson"] == "R36 (release), REVISION: 4.3"


def test_a_machine_without_such_files_leaves_them_out(tmp_path, monkeypatch):
    """Nothing is made up."""
    for name in ("_CPUINFO", "_MODEL", "_TEGRA"):
        monkeypatch.setattr(telemetry, name, tmp_path / "absent")

    found = telemetry.environment()

    assert "board" not in found
    assert "jetson" not in found
