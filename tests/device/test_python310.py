"""The device side on Python 3.10, the one that JetPack 6 boards have.

The interpreter in EDGEDISTILL_PY310 must have numpy and onnxruntime, and need not have
anything else; see docs/device.md for how it is made.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import edgedistill_kernels
import onnxruntime
import pytest

import edgedistill
from edgedistill.distill.optimize.ort_format import to_ort

PYTHON = os.environ.get("EDGEDISTILL_PY310", "")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not PYTHON, reason="EDGEDISTILL_PY310 names no Python 3.10 with numpy and onnxruntime"
    ),
]


def _run(*arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    roots = [Path(package.__file__).parents[1] for package in (edgedistill, edgedistill_kernels)]
    return subprocess.run(
        [PYTHON, *arguments],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, roots))},
        cwd=cwd,
        capture_output=True,
        text=True,
    )


def test_interpreter_is_a_bare_python310(tmp_path):
    """It is 3.10, and it lacks what a board lacks: otherwise the next test shows nothing."""
    code = (
        "import importlib.util as u, sys\n"
        "print(sys.version_info[:2], [n for n in ('torch', 'onnx', 'click') if u.find_spec(n)])"
    )

    assert _run("-c", code, cwd=tmp_path).stdout.strip() == "(3, 10) []"


def test_ort_file_of_a_newer_onnxruntime(world, tmp_path):
    """The host writes the file, the board's older ONNX Runtime gives the student's answers."""
    to_ort(world.folder / "student.onnx", tmp_path / "student.ort", world.series)
    bundle = world.write(tmp_path / "b.zip", {"fp32": tmp_path / "student.ort"})

    ran = _run("-m", "edgedistill.device", "validate", bundle, "--runs", "20", cwd=tmp_path)

    assert ran.returncode == 0, ran.stderr
    environment = json.loads((tmp_path / "report.json").read_text())["environment"]
    assert environment["onnxruntime"] != onnxruntime.__version__, "the same: nothing was shown"


def test_tunes_on_python310(italy, tmp_path):
    """What is found is stored, and the stored settings run."""
    tuned = tmp_path / "tuned.zip"

    ran = _run("-m", "edgedistill.device", "tune", italy, "--out", tuned, cwd=tmp_path)
    again = _run("-m", "edgedistill.device", "validate", tuned, "--runs", "20", cwd=tmp_path)

    assert ran.returncode == again.returncode == 0, ran.stderr + again.stderr
    assert "times as fast as by default" in ran.stdout


def test_validates_on_python310(italy, tmp_path):
    """The same bundle, the same verdict, by another Python and an older ONNX Runtime."""
    ran = _run("-m", "edgedistill.device", "validate", italy, "--runs", "20", cwd=tmp_path)

    assert ran.returncode == 0, ran.stderr
    written = json.loads((tmp_path / "report.json").read_text())
    assert written["verdict"] == "kept"
    assert written["environment"]["python"].startswith("3.10.")
