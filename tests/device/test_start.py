"""A first answer waits for every import, so nothing is imported that it does not need."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from importlib import import_module

import pytest

from edgedistill.device import __main__ as program

CODE = """
import json, sys
from edgedistill.device.__main__ import main
code = main(sys.argv[1:])
print(json.dumps(sorted(sys.modules)), file=sys.stderr)
sys.exit(code)
"""
# What other commands, maps or files need; by the start of their names.
NEEDLESS = (
    *(
        "edgedistill_kernels",
        "edgedistill.saliency.occlusion",
        "edgedistill.bundle.golden",
        "edgedistill.report",
    ),
    *("edgedistill.device.validate", "edgedistill.device.benchmark", "edgedistill.device.costs"),
    *(
        "edgedistill.device.sensors",
        "edgedistill.device.telemetry_sampler",
        "edgedistill.device.tuning",
    ),
    *("edgedistill.device.cli.models", "edgedistill.device.cli.machine"),
    "edgedistill.device.cli.releases",
    *("edgedistill.device.predict.mqtt", "edgedistill.device.drift.comparison"),
    "edgedistill.bundle.signature",
    *("asyncio", "multiprocessing", "unittest", "http", "email", "ssl", "xml", "sqlite3"),
    *("numpy.f2py", "numpy.testing", "tensorrt", "torch", "onnx.", "cuda"),
)


def _loaded(bundle, series, *options) -> list[str]:
    """Return the modules that are loaded once a series is predicted in a fresh process."""
    ran = subprocess.run(
        [sys.executable, "-c", CODE, "predict", bundle, "--preprocessed", "--json", *options],
        input=json.dumps(series.tolist()) + "\n",
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stderr
    assert "probabilities" in ran.stdout
    found: list[str] = json.loads(ran.stderr.splitlines()[-1])
    return found


def test_a_prediction_loads_what_it_needs(italy, world):
    """No other command, no saliency, no golden set, no heavy part of the standard library."""
    loaded = _loaded(italy, world.series[0])

    assert [name for name in loaded if name.startswith(NEEDLESS)] == []


def test_the_check_can_fail(italy, world):
    """Reasons need the kernels and what computes them, so there they are."""
    loaded = _loaded(italy, world.series[0], "--saliency")

    needless = [name for name in loaded if name.startswith(NEEDLESS)]
    assert {"edgedistill_kernels", "edgedistill.saliency.occlusion"} <= set(needless)


@pytest.mark.parametrize("name", program.COMMANDS)
def test_every_command_is_found_under_its_name(name):
    """The program loads one module for a command: it must be the one that adds it."""
    commands = argparse.ArgumentParser().add_subparsers()

    module = import_module(f"edgedistill.device.cli.{program.COMMANDS[name]}")
    getattr(module, f"add_{name}")(commands)

    assert list(commands.choices) == [name]


def test_help_lists_every_command(capsys):
    """Where no command is named, all are loaded."""
    with pytest.raises(SystemExit):
        program.main(["--help"])

    printed = capsys.readouterr().out
    assert all(f"    {name}" in printed for name in program.COMMANDS)


def test_unknown_command_lists_the_known(capsys):
    """A typing error is answered with what there is."""
    with pytest.raises(SystemExit) as stopped:
        program.main(["predit"])

    assert stopped.value.code == 2
    assert "'predict'" in capsys.readouterr().err


@pytest.mark.parametrize(
    "command", [("releases", "--root", "releases", "list"), ("drift", "none.zip", "none.npz")]
)
def test_commands_that_read_files_load_no_runtime(command, tmp_path):
    """Neither the kernels nor a runtime: both work where these do not load."""
    ran = subprocess.run(
        [sys.executable, "-c", CODE, *command], cwd=tmp_path, capture_output=True, text=True
    )

    loaded = json.loads(ran.stderr.splitlines()[-1])
    assert "edgedistill.errors" in loaded
    needless = ("edgedistill_kernels", "edgedistill.runtimes.onnxruntime", "onnxruntime")
    assert [name for name in loaded if name.startswith(needless)] == []
