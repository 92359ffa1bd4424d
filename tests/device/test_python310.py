"""The device side on Python 3.10, the one that JetPack 6 boards have.

The interpreter in EDGEDISTILL_PY310 must have numpy and onnxruntime, and need not have
anything else; see docs/device.md for how it is made.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import zipfile
from pathlib import Path

import edgedistill_kernels
import numpy as np
import onnxruntime
import pytest

import edgedistill
from edgedistill.bundle.drift_reference import DriftLimits, Reference, features
from edgedistill.deployment.zipapp import write_program
from edgedistill.optimize.ort_format import to_ort

PYTHON = os.environ.get("EDGEDISTILL_PY310", "")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not PYTHON, reason="EDGEDISTILL_PY310 names no Python 3.10 with numpy and onnxruntime"
    ),
]


def _run(*arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [PYTHON, *arguments], env=_environment(), cwd=cwd, capture_output=True, text=True
    )


def _environment() -> dict[str, str]:
    roots = [Path(package.__file__).parents[1] for package in (edgedistill, edgedistill_kernels)]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, roots))}


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


def test_program_on_python310(italy, tmp_path):
    """The one file: installed with the bundle, validated there, switched to, asked again."""
    program, root = tmp_path / "p.pyz", tmp_path / "root"
    write_program(program)

    def run(*arguments: str | Path) -> str:
        ran = subprocess.run([PYTHON, "-I", *arguments], capture_output=True, text=True)
        assert ran.returncode == 0, ran.stderr
        return ran.stdout

    options = ("--root", root, "--json")
    installed = run(program, "releases", "install", italy, "--unsigned", *options)
    release = Path(json.loads(installed)["path"])
    run(program, "validate", release, "--runs", "20")
    switched = json.loads(run(program, "releases", "switch", release.name, *options))

    assert switched["outcome"] == "confirmed"
    current = root / "current"
    with zipfile.ZipFile(current / "edgedistill-device.pyz") as archive:
        assert "edgedistill/bundle/reader.pyc" in archive.namelist()
    timed = run(current / "edgedistill-device.pyz", "benchmark", current, "--runs", "20", "--json")
    assert json.loads(timed)["runs"] == 20


def test_drift_on_python310(world, tmp_path):
    """A profile that an older NumPy writes is one that it reads."""
    said = world.golden.student
    known = Reference(
        features=features(world.golden.series), logits=said.logits, signed=said.signed
    )
    bundle = world.write(tmp_path / "b.zip", reference=(known, DriftLimits(min_series=20)))
    np.savetxt(tmp_path / "series.csv", world.golden.series[:, 0], delimiter=",")

    kept = _run(
        *("-m", "edgedistill.device", "predict", bundle, "series.csv", "--preprocessed"),
        *("--profile", "profile.npz", "--saliency-every", "1"),
        cwd=tmp_path,
    )
    asked = _run("-m", "edgedistill.device", "drift", bundle, "profile.npz", cwd=tmp_path)

    assert kept.returncode == asked.returncode == 0, kept.stderr + asked.stderr
    assert "class rates" in asked.stdout


def test_predicts_on_python310(italy, tmp_path):
    """With reasons, from text and from NPZ; the bad line alone is refused."""
    (tmp_path / "x.csv").write_text("1,2,3\nwhat\n")
    np.savez(tmp_path / "x.npz", x=np.arange(48.0).reshape(2, 24))

    ran = [
        _run(
            *("-m", "edgedistill.device", "predict", italy, name, "--json", "--saliency"),
            cwd=tmp_path,
        )
        for name in ("x.csv", "x.npz")
    ]

    assert [done.returncode for done in ran] == [3, 0], ran
    assert [len(done.stdout.splitlines()) for done in ran] == [3, 3], "the plan and two answers"


def test_serves_on_python310(italy, tmp_path):
    """A socket, and a clean end."""
    address = tmp_path / "s"
    command = ["-m", "edgedistill.device", "predict", italy, "--listen", f"unix:{address}"]
    with subprocess.Popen(
        [PYTHON, *command], env=_environment(), stderr=subprocess.PIPE, text=True
    ) as process:
        assert "Listening" in process.stderr.readline()
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(address))
            client.sendall(b"1,2,3\n")
            answer = json.loads(client.makefile().readline())
        process.terminate()
        assert process.wait(20) == 0
        assert process.stderr.read() == ""

    assert "class" in answer
