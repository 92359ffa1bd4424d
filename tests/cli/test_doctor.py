"""`doctor` on this machine: a table for people, JSON for machines, and exit code 5."""

from __future__ import annotations

import platform
import sys

import pytest

X86 = pytest.mark.skipif(platform.machine() != "x86_64", reason="the family of this machine")


@X86
def test_this_machine_can_run_a_bundle(invoke, tmp_path):
    """It runs the tests, so it has what its family needs."""
    ran = invoke("doctor", "--root", tmp_path, "--json")

    assert ran.code == 0, ran.stdout
    assert ran.json["target"] == "x86-64"
    found = {each["what"]: each["outcome"] for each in ran.json["findings"]}
    assert found["ONNX Runtime"] == found["NumPy"] == found["Python"] == "ok"


@X86
def test_another_family_lacks_requirements(invoke, tmp_path):
    """A PC is no Jetson; the commands and the outcome are printed."""
    ran = invoke("doctor", "--target", "jetson-orin-nano", "--root", tmp_path)

    assert ran.code == 5
    assert "outcome: missing" in ran.stdout
    assert "  sudo apt-get update && sudo apt-get install" in ran.stdout
    assert "jetson-orin-nano is another family" in ran.stdout


@X86
def test_board_is_examined_over_ssh(invoke, ssh_server, tmp_path):
    """The same table for the server on loopback, through its key and its known hosts."""
    ran = invoke(
        *("doctor", ssh_server.address, *ssh_server.options),
        *("--python", sys.executable, "--root", tmp_path, "--json"),
    )

    assert ran.code == 0, ran.stderr
    assert ran.json["facts"]["python"]["executable"] == sys.executable
    assert ran.json["facts"]["disk"]["folder"] == str(tmp_path)


def test_board_with_unknown_host_key_is_refused(invoke, ssh_server, tmp_path):
    """No host key is accepted without known hosts."""
    (tmp_path / "none").touch()

    ran = invoke(
        *("doctor", ssh_server.address, "--identity", ssh_server.key),
        *("--known-hosts", tmp_path / "none"),
    )

    assert ran.code == 5
    assert "SHA256:" in ran.stderr


def test_python_option_needs_a_host(invoke):
    """On this machine, the interpreter is the one that runs the command."""
    ran = invoke("doctor", "--python", "python3.12")

    assert ran.code == 2
    assert "Name a HOST too" in ran.stderr
