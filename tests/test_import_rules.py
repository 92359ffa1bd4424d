"""The import rules of pyproject.toml hold, and a broken one is found."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def _lint_imports(folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), str(folder / "kernels")])},
        capture_output=True,
        text=True,
    )


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """A copy of the packages with their rules."""
    shutil.copyfile(ROOT / "pyproject.toml", tmp_path / "pyproject.toml")
    for package in ("edgedistill", "kernels"):
        shutil.copytree(
            ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__")
        )
    return tmp_path


def test_every_module_imports_from_below_only():
    """The packages as they are keep all rules."""
    ran = _lint_imports(ROOT)

    assert ran.returncode == 0, ran.stdout
    assert "0 broken" in ran.stdout


@pytest.mark.parametrize(
    ("module", "line", "told"),
    [
        ("edgedistill/io/npz.py", "import torch", "edgedistill.io.npz -> torch"),
        ("edgedistill/device/doctor.py", "import click", "edgedistill.device.doctor -> click"),
        (
            *("edgedistill/io/files.py", "from edgedistill.evaluation import metrics"),
            "edgedistill.io is not allowed to import edgedistill.evaluation",
        ),
        (
            *("edgedistill/optimize/execution.py", "from edgedistill.recipe import schema"),
            "edgedistill.optimize is not allowed to import edgedistill.recipe",
        ),
        (
            *("edgedistill/training/fit.py", "from edgedistill.pipeline import stage_folder"),
            "edgedistill.training is not allowed to import edgedistill.pipeline",
        ),
        (
            *("kernels/edgedistill_kernels/reference.py", "import edgedistill"),
            "edgedistill_kernels is not allowed to import edgedistill",
        ),
        (
            *("edgedistill/export/export.py", "from edgedistill.recipe import recipe"),
            "Nothing below the pipeline knows a recipe or a run folder BROKEN",
        ),
        (
            *("edgedistill/data/splits.py", "from edgedistill.pipeline import run_folder"),
            "Nothing below the pipeline knows a recipe or a run folder BROKEN",
        ),
        ("edgedistill/utils.py", "", "not listed as layers:\n\n- edgedistill.utils"),
    ],
)
def test_an_import_too_many_is_found(copied, module, line, told):
    """Planted in a copy, it breaks a rule, and so does a module that nobody placed."""
    with (copied / module).open("a") as file:
        file.write(f"\n{line}\n")

    ran = _lint_imports(copied)

    assert ran.returncode == 1
    assert told in ran.stdout
