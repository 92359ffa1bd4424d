"""Whole deployments to a real SSH server, with the real program and real bundles."""

from __future__ import annotations

import asyncio
import fcntl
import json
import re
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from edgedistill.cli import run
from edgedistill.deployment import deploy as deployment
from edgedistill.deployment.connection import connect
from edgedistill.deployment.deploy import deploy
from edgedistill.deployment.lock import Lease, board_lock
from edgedistill.deployment.payload import prepare_payload
from edgedistill.deployment.steps import Outcome, Request
from edgedistill.io import files

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Told:
    """What a command left."""

    code: int
    stdout: str
    stderr: str

    @property
    def json(self):
        return json.loads(self.stdout)


@pytest.fixture
def invoke(capsys):
    """Run a command of the command line."""

    def call(*arguments: object) -> Told:
        code = run([str(argument) for argument in arguments])
        return Told(code, *capsys.readouterr())

    return call


@pytest.fixture
def signers(signer) -> Path:
    """The file that trusts the bundles' signer."""
    return signer.with_name("allowed_signers")


def _deploy(board, bundle, request, tell=lambda _: None, **options) -> Outcome:
    with prepare_payload(bundle, **options) as shipped:
        return asyncio.run(deploy(shipped, board.host, board.access, request, tell))


def test_deploy_two_releases_a_broken_one_and_roll_back(board, bundles, signers, invoke, tmp_path):
    """The whole way of a board: what runs changes only by a kept contract or a rollback."""
    out = tmp_path / "out"

    def deployed(name: str, *options: object) -> Told:
        words = ("deploy", bundles[name], board.host.name, *board.options, "--out", out, *options)
        return invoke(*words, "--runs", 20, "--json")

    first = deployed("first", "--allowed-signers", signers)
    (one,) = first.json
    assert (first.code, one["verdict"], one["current"]) == (0, "kept", one["release"]), first.stderr
    assert board.current == one["release"]
    (saved,) = out.glob("*/report.json")
    assert files.read_json(saved)["verdict"] == "kept"

    second = deployed("second")
    (two,) = second.json
    assert (second.code, board.current) == (0, two["release"]), second.stderr
    assert two["release"] != one["release"]

    broken = deployed("broken")
    (three,) = broken.json
    assert (broken.code, three["verdict"], three["step"]) == (4, "broken", "validate")
    assert "latency_p95_ms is" in three["message"]
    assert f"Nothing was switched; {two['release']} runs there as before" in three["message"]
    assert board.current == two["release"]
    assert files.read_json(saved)["verdict"] == "broken"
    words = ("deploy", bundles["broken"], board.host.name, *board.options, "--out", out)
    shown = invoke(*words, "--runs", 20)
    assert re.search(r"Contract on .*\n(.*\n)*.*p95.*broken", shown.stdout), shown.stdout

    again = deployed("second", "--keep", "2", "--report", saved)
    assert (again.code, board.current) == (0, two["release"]), again.stderr
    assert board.host.name in (out / "report.html").read_text()
    assert "upload skipped: is there already" in again.stderr
    assert {path.name for path in (board.root / "releases").iterdir()} == {
        one["release"],
        two["release"],
    }

    stands = invoke("status", board.host.name, *board.options, "--json")
    (now,) = stands.json
    assert (stands.code, now["current"], now["previous"]) == (0, two["release"], one["release"])
    assert (now["verdict"], now["signer"], now["trusts"]) == ("kept", "me@example.org", True)
    assert now["free_bytes"] > 0
    assert not now["switching"]

    back = invoke("rollback", board.host.name, *board.options)
    assert (back.code, board.current) == (0, one["release"]), back.stderr
    assert one["release"] in back.stdout
    again = invoke("rollback", board.host.name, *board.options)
    assert (again.code, board.current) == (0, one["release"])
    assert f"{one['release']} runs already, and nothing was changed" in again.stderr
    redone = invoke("rollback", board.host.name, *board.options, "--to", two["release"])
    assert (redone.code, board.current) == (0, two["release"]), redone.stderr


def test_unhealthy_release_is_rolled_back_on_the_board(board, bundles, signers, monkeypatch):
    """The board itself goes back; here the new release's model is lost after its validation."""
    request = Request(runs=20, signers=signers.read_text())
    first = _deploy(board, bundles["first"], request)

    def lose_the_model(event):
        if (event.step, event.state) == ("switch", "begun"):
            for folder in (board.root / "releases").glob("second-*"):
                shutil.rmtree(folder / "bundle" / "models")

    second = _deploy(board, bundles["second"], request, lose_the_model)

    assert first.code == 0, first.message
    assert (second.code, second.step) == (4, "switch")
    assert "is not healthy here" in second.message
    assert f"{first.release} is current again" in second.message
    assert board.current == first.release


def test_cuts_on_the_way_are_survived(cutter, bundles, signers):
    """The connection dies again and again; the deployment goes on where it was."""
    notes = []
    _, board = cutter([9_000, 100_000, 60_000, 5_000])

    found = _deploy(
        board,
        bundles["first"],
        Request(runs=20, signers=signers.read_text()),
        lambda event: notes.append(event.text) if event.state == "note" else None,
    )

    assert found.code == 0, found.message
    assert board.current == found.release
    assert sum("tries again: The connection to" in note for note in notes) >= 3


def test_an_interrupted_workstation_leaves_a_board_that_can_be_gone_on_with(
    board, bundles, signers, tmp_path
):
    """Ctrl-C in the middle: a sentence, exit code 130; the next deployment finds what is there."""
    words = ("deploy", bundles["first"], board.host.name, *board.options, "--runs", "20")
    trust = ("--allowed-signers", signers, "--out", tmp_path)
    with subprocess.Popen(
        [sys.executable, "-m", "edgedistill", *map(str, (*words, *trust))],
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        told = []
        for line in process.stderr:
            told.append(line)
            if "install done" in line:
                process.send_signal(signal.SIGINT)
    before = board.current
    request = Request(runs=20, signers=signers.read_text())
    skipped = []

    found = _deploy(
        board,
        bundles["first"],
        request,
        lambda event: skipped.append(event.step) if event.state == "skipped" else None,
    )

    assert (process.returncode, before) == (130, None), told
    assert told[-1] == "Interrupted; nothing half written was kept. Run it again to go on.\n"
    assert not any("Traceback" in line or "never retrieved" in line for line in told)
    assert (found.code, board.current) == (0, found.release), found.message
    assert {"upload"} <= set(skipped)


def test_unreachable_board_is_given_up(cutter, bundles, signers, monkeypatch):
    """After a bounded number of tries the error stands, and what there is stays."""
    monkeypatch.setattr(deployment, "_FIRST_WAIT_S", 0.001)
    _, board = cutter([20_000] + [500] * 20)

    found = _deploy(board, bundles["first"], Request(runs=20, signers=signers.read_text()))

    assert found.code == 5
    assert "broke off" in found.message
    assert board.current is None


def test_a_command_that_is_under_way_on_the_board_refuses(board, bundles, signers):
    """The program's lock is held by somebody else, and the message says so."""
    board.root.mkdir()
    with (board.root / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)

        found = _deploy(board, bundles["first"], Request(runs=20, signers=signers.read_text()))

    assert (found.code, found.step) == (5, "install")
    assert deployment._BUSY[1] in found.message  # by which a deployment knows its own leftover


def test_while_another_deployment_is_under_way_one_is_refused(board, bundles):
    """It names who is at work there."""
    request = Request(unsigned=True, runs=20)

    async def second(shipped):
        async with (
            connect(board.host, board.access) as first,
            board_lock(first, str(board.root), Lease()),
        ):
            return await deploy(shipped, board.host, board.access, request, lambda _: None)

    with prepare_payload(bundles["unsigned"], unsigned=True) as shipped:
        refused = asyncio.run(second(shipped))

    assert refused.code == 5
    assert re.search(
        r"Another deployment to .* is under way \(\S+@\S+, process \d+ there\)", refused.message
    )


@pytest.mark.parametrize("step", ["install", "switch", "prune"])
def test_step_after_another_deployment_took_over_is_refused(board, bundles, step):
    """The board's program compares the token: whoever is late need not have noticed by then."""

    def take_over(event):
        if (event.step, event.state) == (step, "begun"):
            (board.root / "deploying").write_text("process 12 0a1b2c3d me@laptop\n")

    found = _deploy(
        board,
        bundles["unsigned"],
        Request(unsigned=True, runs=20, keep=1),
        take_over,
        unsigned=True,
    )

    assert (found.code, found.step) == (5, step)
    assert "me@laptop, process 12 there took over this board" in found.message
    assert (board.current is None) == (step != "prune")


def test_two_deployments_at_once_leave_one_release(board, bundles):
    """The same bundle from two workstations: the second waits for a moment, or is refused."""
    request = Request(unsigned=True, runs=20)

    async def both(shipped):
        work = (deploy(shipped, board.host, board.access, request, lambda _: None) for _ in "ab")
        return await asyncio.gather(*work)

    with prepare_payload(bundles["unsigned"], unsigned=True) as shipped:
        done, other = sorted(asyncio.run(both(shipped)), key=lambda each: each.code)

    assert (done.code, other.code) in {(0, 0), (0, 5)}, (done.message, other.message)
    assert [path.name for path in (board.root / "releases").iterdir()] == [done.release]
    assert (board.root / "current").readlink().name == done.release


def test_an_unsigned_bundle_is_refused_here_and_there(board, bundles, signers, invoke):
    """Before anything is sent; and with --unsigned it goes."""
    words = ("deploy", bundles["unsigned"], board.host.name, *board.options)

    refused = invoke(*words)
    taken = _deploy(board, bundles["unsigned"], Request(runs=20, unsigned=True), unsigned=True)

    assert refused.code == 6
    assert "is not signed" in refused.stderr
    assert taken.code == 0, taken.message


def test_board_with_other_signers_refuses(board, bundles, tmp_path):
    """The signature is sound, and of somebody whom this board does not trust: nothing runs."""
    other = tmp_path / "other"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", other], check=True)
    trusted = f"other@example.org {other.with_suffix('.pub').read_text()}"

    found = _deploy(board, bundles["first"], Request(runs=20, signers=trusted))

    assert (found.code, found.step) == (6, "install")
    assert board.current is None


def test_a_board_of_another_family_is_refused_before_the_upload(board, bundles, signers):
    """A target that the machine is not."""
    host = replace(board.host, target="jetson-orin-nano")

    found = _deploy(
        replace(board, host=host), bundles["first"], Request(runs=20, signers=signers.read_text())
    )

    assert (found.code, found.step) == (5, "program")
    assert "is not ready. machine: " in found.message
    assert board.current is None


def test_a_dry_run_writes_nothing(board, bundles, signers):
    """It connects and looks."""
    found = _deploy(
        board, bundles["first"], Request(runs=20, signers=signers.read_text(), dry_run=True)
    )

    assert (found.code, found.step) == (0, "preflight")
    assert not board.root.exists()
