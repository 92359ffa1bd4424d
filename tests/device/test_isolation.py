"""The device side needs NumPy, a runtime and the standard library, and nothing else.

The same script runs twice: on the package as it is, and on a copy with one import too
many, which shows that the first run can fail.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import edgedistill_kernels
import pytest

import edgedistill
from edgedistill.deployment.zipapp import write_program

pytestmark = pytest.mark.slow

OURS = {"edgedistill", "edgedistill_kernels"}
ALLOWED = OURS | {"numpy", "onnxruntime"}
SCRIPT = """
import importlib, pkgutil, sys

allowed = set(sys.argv[1].split(",")) | sys.stdlib_module_names

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] not in allowed:
            raise ModuleNotFoundError(f"blocked: {name}", name=name)

sys.meta_path.insert(0, Absent())
import edgedistill.device
for module in pkgutil.iter_modules(edgedistill.device.__path__, "edgedistill.device."):
    importlib.import_module(module.name)
foreign = {name.partition(".")[0] for name in sys.modules} & set(sys.argv[2].split(","))
assert not foreign, foreign
from edgedistill.device.__main__ import main
sys.exit(main(["validate", sys.argv[3], "--out", sys.argv[4], "--runs", "5"]))
"""


def _run_alone(bundle: Path, out: Path, *roots: Path) -> subprocess.CompletedProcess[str]:
    blocked = set(packages_distributions()) - ALLOWED - sys.stdlib_module_names
    # .pth files, editable installs among them, may import anything: none is read with -S.
    site = Path(pytest.__file__).parent.parent
    path = os.pathsep.join(map(str, [*roots, site]))
    return subprocess.run(
        [
            *(sys.executable, "-S", "-c", SCRIPT),
            *(",".join(ALLOWED), ",".join(blocked), str(bundle), str(out)),
        ],
        env={**os.environ, "PYTHONPATH": path},
        cwd=out.parent,
        capture_output=True,
        text=True,
    )


def _roots() -> tuple[Path, Path]:
    return tuple(
        Path(package.__file__).parents[1] for package in (edgedistill, edgedistill_kernels)
    )


def test_validates_where_only_numpy_and_onnxruntime_are(italy, tmp_path):
    """Everything of the device side is imported, and a bundle is validated."""
    ran = _run_alone(italy, tmp_path / "report.json", *_roots())

    assert ran.returncode == 0, ran.stderr
    assert "verdict: kept" in ran.stdout
    assert (tmp_path / "report.json").exists()


def test_program_validates_where_only_numpy_and_onnxruntime_are(italy, tmp_path):
    """The same from the one file that travels; nothing of the checkout can be imported."""
    program = tmp_path / "edgedistill-device.pyz"
    write_program(program)

    ran = _run_alone(italy, tmp_path / "report.json", program)

    assert ran.returncode == 0, ran.stderr
    assert "verdict: kept" in ran.stdout


@pytest.mark.parametrize("package", ["torch", "onnx", "click", "pydantic", "yaml", "numba"])
def test_import_of_a_workstation_package_fails(italy, tmp_path, package):
    """A copy of the package whose device side imports a package of the workstation fails."""
    root = tmp_path / "copy"
    for source in (edgedistill, edgedistill_kernels):
        folder = Path(source.__file__).parent
        shutil.copytree(folder, root / folder.name, ignore=shutil.ignore_patterns("__pycache__"))
    with (root / "edgedistill" / "evaluation" / "metrics.py").open("a") as module:
        module.write(f"\nimport {package}\n")

    ran = _run_alone(italy, tmp_path / "report.json", root)

    assert ran.returncode != 0
    assert f"blocked: {package}" in ran.stderr
