"""One tiny run on real data that the tests of the command line share, and ways to run commands."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from edgedistill.cli import run

TINY = """\
data:
  train: ItalyPowerDemand
  limit_per_class: 20
teacher:
  width: 4
  training: {epochs: 3, accelerator: cpu}
student:
  width: 4
  objectives:
    - {name: kd}
    - {name: tsd_maps, start: 0.3}
  training: {epochs: 3, accelerator: cpu}
references:
  ceiling: false
optimize:
  runs: 10
  prefer: size # the clock decides nothing
contract: # so loose that a student of three epochs keeps it
  max_accuracy_drop: 1.0
  min_agreement: 0.0
  max_kl: 100.0
  min_saliency_pearson: -1.0
  min_saliency_spearman: -1.0
golden: 8
"""


@dataclass(frozen=True)
class Ran:
    """What a command left."""

    code: int
    stdout: str
    stderr: str

    @property
    def json(self) -> Any:
        """Return stdout, which must be one JSON document."""
        return json.loads(self.stdout)


Invoke = Callable[..., Ran]


@pytest.fixture(scope="session")
def invoke() -> Invoke:
    """Run a command in this process."""

    def call(*arguments: object) -> Ran:
        stdout, stderr = io.StringIO(), io.StringIO()
        with redirect_stdout(stdout), redirect_stderr(stderr):
            code = run([str(argument) for argument in arguments])
        return Ran(code, stdout.getvalue(), stderr.getvalue())

    return call


@pytest.fixture(scope="session")
def execute() -> Invoke:
    """Run a command in a process of its own; `before` is Python that runs there first."""

    def call(*arguments: object, before: str = "") -> Ran:
        code = f"{before}\nfrom edgedistill.cli import main\nmain()"
        done = subprocess.run(
            [sys.executable, "-c", code, *(str(argument) for argument in arguments)],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
        )
        return Ran(done.returncode, done.stdout, done.stderr)

    return call


@pytest.fixture(scope="session")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recipe that takes seconds."""
    path = tmp_path_factory.mktemp("recipe") / "tiny.yaml"
    path.write_text(TINY)
    return path


@dataclass(frozen=True)
class Run:
    """A finished run."""

    folder: Path
    ran: Ran

    @property
    def bundle(self) -> Path:
        return self.folder / "result" / "bundle.zip"

    @property
    def onnx(self) -> Path:
        return self.folder / "model" / "student.onnx"


@pytest.fixture(scope="session")
def finished(invoke: Invoke, recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The tiny recipe, compressed once."""
    folder = tmp_path_factory.mktemp("runs") / "italy"
    ran = invoke("compress", recipe, "--out", folder)
    assert ran.code == 0, ran.stderr
    return Run(folder, ran)
