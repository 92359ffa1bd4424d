"""The steps of one board: which there are, and in which order."""

from __future__ import annotations

import pytest

from edgedistill.deployment.board import Program
from edgedistill.deployment.payload import DeploymentPayload, UploadFile
from edgedistill.deployment.steps import DeploymentSteps, Request, folder_name
from edgedistill.device import doctor
from edgedistill.errors import MachineError, UsageError

ALL = ["preflight", "program", "upload", "install", "validate", "switch", "report", "prune"]


@pytest.fixture
def steps(board, tmp_path):
    """Return the steps of a board for a model of some runtime, and what they tell."""

    def make(runtime="onnxruntime", **settings):
        parcel = UploadFile(path=tmp_path, sha256="0" * 64, size_bytes=1)
        shipped = DeploymentPayload(
            name="tiny", archive=parcel, program=parcel, runtime=runtime, unpacked_bytes=1
        )
        told = []
        return DeploymentSteps(
            shipped, board.host, Request(**settings), lambda *a: told.append(a)
        ), told

    return make


@pytest.mark.parametrize(
    ("runtime", "settings", "names"),
    [
        ("onnxruntime", {}, ALL),
        ("tensorrt", {}, [*ALL[:4], "build", *ALL[4:]]),
        ("tensorrt", {"dry_run": True}, ["preflight"]),
    ],
)
def test_an_engine_is_built_before_it_is_judged_and_a_dry_run_only_looks(
    steps, runtime, settings, names
):
    """Nothing is switched that was not validated."""
    found, _ = steps(runtime, **settings)

    assert [name for name, _ in found.plan()] == names


def test_long_build_reports_progress(steps, board, tmp_path, monkeypatch):
    """Line by line, as the program on the board writes them."""
    script = tmp_path / "program.py"
    script.write_text("import sys; sys.stderr.write('layer 1\\nlayer 2\\n'); print('{}')")
    monkeypatch.setattr(
        "edgedistill.deployment.steps.Program",
        lambda connection, *_: Program(connection, board.host.python, str(script)),
    )
    found, told = steps("tensorrt")
    build = dict(found.plan())["build"]

    board.run(build)

    assert told == [("note", "layer 1"), ("note", "layer 2")]


def test_facts_that_no_target_fits_are_refused(steps):
    """The message has the board's name, and asks for the target's."""
    found, _ = steps()
    facts = {
        "format": "edgedistill.facts/1", "machine": "mips", "board": "", "compatible": "",
        "jetson_linux": "",
    }  # fmt: skip

    with pytest.raises(MachineError, match=r"127\.0\.0\.1:\d+: No target fits a mips machine"):
        found._judge(facts)


def test_unsigned_bundles_need_no_ssh_keygen(steps, tmp_path):
    """A board that is to verify nothing need not be able to."""
    facts = {**doctor.facts(tmp_path), "ssh_keygen": None}
    signed, unsigned = steps()[0], steps(unsigned=True)[0]

    with pytest.raises(MachineError, match=r"is not ready.*ssh-keygen"):
        signed._judge(facts)
    unsigned._judge(facts)


@pytest.mark.parametrize("name", ["keep", "threads", "runs"])
def test_counts_below_one_are_refused(name):
    """A board keeps at least the release that runs."""
    with pytest.raises(UsageError, match=f"{name} is 0; give 1 or more"):
        Request(**{name: 0})


@pytest.mark.parametrize(
    ("host", "name"),
    [("pi@b:22", "pi@b-22"), ("../x", "x"), ("[fe80::1]", "fe80-1"), ("/", "board")],
)
def test_a_boards_name_makes_one_folder(host, name):
    """Whatever stands in it, it leads nowhere else."""
    assert folder_name(host) == name
