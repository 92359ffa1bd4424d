"""The commands that need a GPU exit with an error where there is none."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import edgedistill_kernels as kernels
import pytest

pytestmark = pytest.mark.slow

pytest.importorskip("numba", reason="the compiled backends need Numba")
SIMULATED = os.environ.get("NUMBA_ENABLE_CUDASIM") == "1"
SCRIPT = Path(__file__).parents[2] / "benchmarks" / "kernels_gpu.py"


@pytest.mark.skipif("cuda" in kernels.BACKENDS, reason="a GPU is here, or a simulated one")
@pytest.mark.parametrize("command", ["test", "bench"])
def test_commands_for_a_gpu_exit_with_5_without_one(command, tmp_path):
    """The reason is on standard error, and nothing is written."""
    ran = subprocess.run(
        [sys.executable, str(SCRIPT), command, "--out", str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )

    assert ran.returncode == 5
    assert f"No GPU to {command} on: Numba finds no usable GPU" in ran.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.gpu
@pytest.mark.skipif("cuda" not in kernels.BACKENDS or SIMULATED, reason="no CUDA GPU here")
def test_the_gpu_agrees_on_fresh_inputs():
    """What `make gpu-test` runs."""
    ran = subprocess.run([sys.executable, str(SCRIPT), "test", "--rounds", "1"], check=False)

    assert ran.returncode == 0
