"""What commands and training decide for the libraries below, and which of them they load."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from edgedistill import LIBRARY_DEFAULTS as DEFAULTS

pytestmark = pytest.mark.slow

IMPORT = "import edgedistill"
FUNCTION = "import edgedistill; edgedistill.set_library_defaults()"
COMMAND = "from edgedistill.cli import run; run(['inspect', 'absent'])"
DEVICE = "from edgedistill.device.__main__ import main; main(['predict', 'absent'])"
FIT = """
from edgedistill.training.config import FitConfig
from edgedistill.training.fit import fit
fit(None, [], None, FitConfig(accelerator="absent"), seed=0)
"""


def _after(program: str, **before: str) -> dict[str, str]:
    """Return what a program changes in the variables it begins with, however it ends."""
    begin = {key: value for key, value in os.environ.items() if key not in DEFAULTS} | before
    telling = "import atexit, json, os; atexit.register(lambda: print(json.dumps({**os.environ})))"
    done = subprocess.run(
        [sys.executable, "-c", f"{telling}\n{program}"], env=begin, capture_output=True, text=True
    )
    after = json.loads(done.stdout.splitlines()[-1])
    return {key: value for key, value in after.items() if begin.get(key) != value}


def test_importing_changes_nothing():
    """Whoever imports a library did not ask it to decide for others."""
    assert _after(IMPORT) == {}


@pytest.mark.parametrize(
    "program", [FUNCTION, COMMAND, DEVICE, FIT], ids=["function", "command", "device", "fit"]
)
def test_commands_and_training_set_defaults(program):
    """Threads do not wait in a loop, and nothing is sent to anybody."""
    changed = _after(program)

    assert {key: changed.get(key) for key in DEFAULTS} == DEFAULTS


@pytest.mark.parametrize(
    "program", [FUNCTION, COMMAND, DEVICE], ids=["function", "command", "device"]
)
def test_what_is_set_already_stays(program):
    """Somebody has said how threads wait, and that telemetry may be sent."""
    assert _after(program, OMP_WAIT_POLICY="active", ORT_DISABLE_TELEMETRY="0") == {}


@pytest.fixture(scope="module")
def loaded_by_a_refused_run() -> list[str]:
    """The modules that a command has loaded when it refuses a data set that is not there."""
    program = "import sys; from edgedistill.cli import run\n"
    program += "code = run(['compress', '--data', 'absent.csv']); print(code, *sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    code, *loaded = done.stdout.split()
    assert code == "3"
    assert "edgedistill.pipeline.run" in loaded
    return loaded


@pytest.mark.parametrize(
    "library",
    [
        *("aeon", "joblib", "lightning_fabric", "onnx", "onnx_ir", "onnxruntime", "onnxscript"),
        *("pandas", "scipy", "sklearn", "sympy", "torch._dynamo"),
    ],
)
def test_a_wrong_name_is_told_before_a_slow_library_loads(library, loaded_by_a_refused_run):
    """Each takes a second or more, and not every run needs it."""
    assert library not in loaded_by_a_refused_run
