"""Files that an earlier version wrote still open, and say what they said.

`old/` was made once, with the recipe and the plan of conftest.py, and is never made again.
"""

from __future__ import annotations

import shutil

import pytest

RUN, BUNDLE = "old/run", "old/run/result/bundle.zip"
COMMANDS = {
    "report": ("report", RUN),
    "inspect-bundle": ("inspect", BUNDLE),
    "inspect-onnx": ("inspect", "old/run/model/student.onnx"),
    "inspect-weights": ("inspect", "old/run/student/weights.safetensors"),
    "validate": ("validate", BUNDLE, "--runs", "10", "--out", "host/report.json"),
    "validate-int8": (
        *("validate", BUNDLE, "--runs", "10", "--model", "ort-int8"),
        *("--out", "host/int8.json"),
    ),
    "benchmark": ("benchmark", BUNDLE, "--runs", "10"),
    "bundle-broken": (
        *("bundle", "tiny.yaml", "--teacher", "old/run/teacher"),
        *("--student", "old/run/student", "--variants", "old/run/variants"),
        *("--set", "contract.max_size_bytes=10", "--out", "staged/broken"),
    ),
    "explain-run": ("explain", RUN),
    "explain-bundle": ("explain", BUNDLE, "--index", "1"),
    "explain-gradients": ("explain", RUN, "--method", "integrated-gradients"),
    "compare-bundle": (
        *("compare", BUNDLE, BUNDLE),
        *("--model-a", "ort-fp32", "--model-b", "ort-int8"),
    ),
    "compare-run": ("compare", RUN, "old/run/model/student.onnx", "--series", "20"),
    "compare-student": (
        *("compare", "old/run/teacher", "old/run/student"),
        *("--data", "ItalyPowerDemand", "--series", "20"),
    ),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_command(home, invoke, frozen_command, name):
    """For machines, and for people."""
    frozen_command(name, invoke(*COMMANDS[name], "--json"))
    if not name.startswith("compare-"):
        frozen_command(f"{name}-text", invoke(*COMMANDS[name]))


def test_compare_for_people(home, invoke, frozen_command):
    """Layers in a table."""
    frozen_command("compare-bundle-text", invoke(*COMMANDS["compare-bundle"]))


def test_resuming(home, invoke, frozen_command):
    """Nothing of an old run is done again, neither by its own recipe nor by the one it came from."""
    shutil.copytree(home / RUN, home / "resumed")

    frozen_command("old-run-resumed", invoke("compress", "tiny.yaml", "--out", "resumed", "--json"))
    written = invoke("compress", "resumed/recipe.yaml", "--out", "resumed", "--json")
    assert not any(written.json["stages"].values())


def test_folder_of_the_old_run(home, contents, frozen):
    """The files that were kept are those that were frozen."""
    frozen("old-run-folder", contents(home / RUN))
