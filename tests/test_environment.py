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


LIGHT = {  # commands that answer without training, with their exit codes
    "wrong data": (3, "compress", "--data", "absent.csv"),
    "wrong recipe": (2, "compress", "--data", "GunPoint", "--set", "student.widht=8"),
    "wrong data of a stage": (3, "train", "--data", "absent.csv", "--out", "absent"),
    "inspected data": (0, "inspect", "GunPoint"),
}


@pytest.fixture(scope="module", params=LIGHT)
def loaded(request: pytest.FixtureRequest) -> list[str]:
    """The modules that a command has loaded when it ends."""
    expected, *arguments = LIGHT[request.param]
    program = "import sys; from edgedistill.cli import run\ncode = run(sys.argv[1:])\n"
    program += "print(code, *sys.modules, file=sys.stderr)"
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, text=True
    )
    code, *loaded = done.stderr.splitlines()[-1].split()
    assert int(code) == expected
    assert "edgedistill.recipe.recipe" in loaded
    return loaded


@pytest.mark.parametrize(
    "library",
    [
        *("aeon", "joblib", "lightning_fabric", "onnx", "onnx_ir", "onnxruntime", "onnxscript"),
        *("pandas", "scipy.stats", "sklearn", "sympy", "torch"),
    ],
)
def test_light_commands_load_no_slow_library(library, loaded):
    """Each takes a quarter of a second to three, and only what is trained or run needs it."""
    assert library not in loaded
