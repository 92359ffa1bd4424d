"""The folder of a run, wherever a command takes a bundle: on the workstation and on the board."""

from __future__ import annotations

import contextlib
import io
import json
import shutil

import numpy as np
import pytest

from edgedistill.deployment.payload import prepare_payload
from edgedistill.device.__main__ import main as device
from edgedistill.device.releases.installation import Request, install
from edgedistill.device.releases.layout import Root
from edgedistill.io.files import read_json, sha256, write_json

pytestmark = pytest.mark.slow

COMMANDS = [
    ("inspect", "{run}", "--json"),
    ("validate", "{run}", "--runs", "5", "--out", "{out}/report.json", "--json"),
    ("benchmark", "{run}", "--runs", "5", "--json"),
    ("explain", "{run}", "--json"),
    ("compare", "{run}", "{run}", "--model-a", "ort-fp32", "--model-b", "ort-fp32", "--json"),
    ("deploy", "{run}", "nobody@localhost", "--unsigned", "--dry-run", "--out", "{out}"),
]
DEVICE_COMMANDS = [
    ("predict", "{run}", "{series}"),
    ("validate", "{run}", "--runs", "5", "--no-costs", "--out", "{out}/board.json"),
    ("benchmark", "{run}", "--runs", "5", "--no-costs"),
    ("tune", "{run}", "--out", "{out}/tuned.zip"),
]


@pytest.fixture
def places(finished, tmp_path):
    """What the placeholders of the commands stand for."""
    series = tmp_path / "series.csv"
    np.savetxt(series, np.zeros((2, 24)) + np.arange(24), delimiter=",", fmt="%g")
    return {"run": finished.folder, "series": series, "out": tmp_path}


@pytest.fixture
def broken(finished, tmp_path):
    """The run as if it had broken its contract."""
    folder = tmp_path / "broken"
    shutil.copytree(finished.folder, folder, ignore=shutil.ignore_patterns("bundle.zip"))
    report = read_json(folder / "result" / "report.json")
    reasons = ["ort-int8: kl is 0.7 and breaks the threshold <= 0.5 by 0.2."]
    write_json(
        folder / "result" / "report.json", {**report, "verdict": "broken", "reasons": reasons}
    )
    return folder


def filled(command, places):
    return [part.format(**places) for part in command]


def run_device(command):
    stdout, stderr = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(stdout), contextlib.redirect_stderr(stderr):
        code = device(command)
    return code, stdout.getvalue(), stderr.getvalue()


@pytest.mark.parametrize("command", COMMANDS[:5], ids=lambda command: command[0])
def test_workstation_reads_the_bundle_of_a_run(invoke, places, command):
    ran = invoke(*filled(command, places))

    assert ran.code == 0, ran.stderr
    assert ran.json


@pytest.mark.parametrize("command", DEVICE_COMMANDS, ids=lambda command: command[0])
def test_board_reads_the_bundle_of_a_run(places, command):
    code, stdout, stderr = run_device(filled(command, places))

    assert code == 0, stderr
    assert stdout


def test_deployment_takes_the_zip_of_a_run_as_it_is(finished, tmp_path):
    with prepare_payload(finished.folder, unsigned=True) as payload:
        assert payload.archive.sha256 == sha256(finished.bundle)

    release, is_new = install(Root(tmp_path / "root"), finished.folder, Request())
    assert is_new
    assert release.bundle == "ItalyPowerDemand"


@pytest.mark.parametrize(
    "command", [c for c in COMMANDS if c[0] not in ("explain",)], ids=lambda command: command[0]
)
def test_run_without_a_bundle_is_refused_with_its_reason(invoke, places, broken, command):
    ran = invoke(*filled(command, {**places, "run": broken}))

    assert ran.code == 4
    assert "because its contract is broken. ort-int8: kl is 0.7" in ran.stderr
    assert f"edgedistill report {broken}" in ran.stderr


@pytest.mark.parametrize("command", DEVICE_COMMANDS, ids=lambda command: command[0])
def test_board_refuses_it_likewise(places, broken, command):
    code, stdout, stderr = run_device(filled(command, {**places, "run": broken}))

    assert (code, stdout) == (4, "")
    assert "because its contract is broken. ort-int8: kl is 0.7" in stderr


def test_inspect_shows_which_bundle(invoke, finished):
    facts = json.loads(invoke("inspect", finished.folder, "--json").stdout)

    assert facts["path"] == str(finished.bundle)
    assert facts["size_bytes"] == finished.bundle.stat().st_size
