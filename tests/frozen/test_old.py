"""Files that an earlier version wrote still open, and say what they said.

`old/` was made once, with the recipe and the plan of conftest.py, and is never made again.
"""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.slow

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
    "experiment-report": ("experiment", "report", "old/experiment", "--metric", "kl"),
    "compare-bundle": (
        *("compare", BUNDLE, BUNDLE),
        *("--model-a", "ort-fp32", "--model-b", "ort-int8"),
    ),
    "compare-student": (
        *("compare", "old/run/teacher", "old/run/student"),
        *("--data", "ItalyPowerDemand", "--series", "20"),
    ),
}


SLOW = {"bundle-broken", "compare-student"}  # said once, for machines


@pytest.mark.parametrize("name", COMMANDS)
def test_command(home, invoke, frozen_command, name):
    """For machines, and for people."""
    frozen_command(name, invoke(*COMMANDS[name], "--json"))
    if name not in SLOW:
        frozen_command(f"{name}-text", invoke(*COMMANDS[name]))


def test_resuming(home, invoke, frozen_command):
    """Nothing of an old run is done again, by the recipe it came from or by its own."""
    frozen_command("old-run-resumed", invoke("compress", "tiny.yaml", "--out", "resumed", "--json"))
    written = invoke("compress", "resumed/recipe.yaml", "--out", "resumed", "--json")
    assert not any(written.json["stages"].values())


def test_folder_of_the_old_run(home, contents, frozen):
    """The files that were kept are those that were frozen."""
    frozen("old-run-folder", contents(home / RUN))


def test_resuming_an_experiment(home, invoke, frozen_command):
    """Every run is found done."""
    before = _times(home / "experiment-resumed" / "runs")

    ran = invoke(
        *("experiment", "run", "plan.yaml", "--out", "experiment-resumed", "--jobs", "1", "--json")
    )

    frozen_command("old-experiment-resumed", ran)
    assert _times(home / "experiment-resumed" / "runs") == before


def _times(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


SERIES = """\
3,2,1,1,1,2,4,5,6,7,7,7,6,6,5,5,6,7,8,8,7,6,5,4
3,2,1,1,1,2,3,4,nan,5,5,5,5,4,4,4,4,5,6,7,8,7,5,4
what,3,4
"""
RELEASE = "old/releases/current"
ON_DEVICE = {
    "predict": ("predict", BUNDLE, "--json", "--saliency"),
    "predict-csv": ("predict", RELEASE, "--csv"),
    "predict-text": ("predict", RELEASE),
    "drift": ("drift", BUNDLE, "old/profile.npz", "--json"),
    "drift-text": ("drift", BUNDLE, "old/profile.npz"),
    "validate": ("validate", BUNDLE, "--runs", "10", "--out", "device/report.json", "--json"),
    "validate-release": ("validate", RELEASE, "--runs", "10"),
    "benchmark": ("benchmark", BUNDLE, "--runs", "10", "--json"),
    "releases": ("releases", "--root", "old/releases", "list", "--json"),
    "check": ("releases", "--root", "old/releases", "check", RELEASE),
    "install": (
        *("releases", "--root", "old/releases", "install", BUNDLE),
        *("--unsigned", "--name", "second", "--json"),
    ),
    "no-bundle": ("validate", "none.zip"),
    "no-command": ("validat",),
    "not-a-bundle": ("validate", "old/run/student/weights.safetensors"),
}


@pytest.mark.parametrize("name", ON_DEVICE)
def test_device(home, device, lines, frozen, name):
    """What the device side says; JSON lines are documents."""
    ran = device(*ON_DEVICE[name], stdin=SERIES if "predict" in name else "")

    frozen(f"device-{name}", lines(ran))
