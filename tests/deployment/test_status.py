"""How a board stands is told also where there is little, or nothing, to tell."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace

import pytest

from edgedistill.deployment.deploy import deploy
from edgedistill.deployment.payload import prepare_payload
from edgedistill.deployment.status import rollback, set_trust, status
from edgedistill.deployment.steps import Request

pytestmark = pytest.mark.slow


def _ask(work, board, *arguments):
    return asyncio.run(work(board.host, board.access, *arguments))


def test_status_of_an_empty_board(board):
    """Nothing is made there by asking."""
    found = _ask(status, board)

    assert (found.code, found.current, found.releases, found.trusts) == (0, None, (), False)
    assert found.free_bytes > 0
    assert not board.root.exists()


def test_rollback_of_an_empty_board_is_refused(board):
    """The message names the folder."""
    found = _ask(rollback, board)

    assert found.code == 2
    assert f"has no release in {board.root}" in found.message


def test_signers_are_set_and_reported(board):
    """Before anything is deployed."""
    found = _ask(set_trust, board, "me@example.org ssh-ed25519 AAAA\n")

    assert (found.code, found.trusts) == (0, True)


@pytest.mark.parametrize("work", [status, rollback, lambda *a: set_trust(*a, "")])
def test_unreachable_board_has_an_error_status(board, work):
    """With its exit code, and nothing else known."""
    away = replace(board, host=replace(board.host, port=1))

    found = _ask(work, away)

    assert (found.code, found.current, found.trusts) == (5, None, None)
    assert "refused the connection" in found.message


def test_status_with_one_release_and_an_interrupted_switch(board, bundles):
    """As the board's own program says; JSON can hold all of it."""
    with prepare_payload(bundles["unsigned"], unsigned=True) as shipped:
        request = Request(unsigned=True, runs=20)
        done = asyncio.run(deploy(shipped, board.host, board.access, request, lambda _: None))

    back = _ask(rollback, board)
    (board.root / "switching.json").write_text(json.dumps({"from": None, "to": done.release}))
    found = _ask(status, board)

    assert (back.code, board.current) == (2, done.release), back.message
    assert "no previous release" in back.message
    assert (found.current, found.previous, found.switching) == (done.release, None, True)
    assert (found.signer, found.verdict) == (None, "kept")
    assert found.program
    assert json.loads(json.dumps(found.to_dict()))["releases"] == [done.release]


_PROGRAM = """
import json, sys
releases = [{{"name": name, "signer": "me", "trusted": {trusted}}} for name in "ab"]
if sys.argv[1] == "--version":
    print("edgedistill 0")
elif "rollback" in sys.argv:
    print(json.dumps({{"outcome": "confirmed"}}))
else:
    listed = {{"current": "{current}", "previous": "a", "rolled_back": None, "switching": False}}
    print(json.dumps({{**listed, "releases": releases}}))
"""


@pytest.fixture
def with_programs(board):
    """Write stand-ins for the programs of two releases, of which `b` is current."""

    def write(current="b", trusted=True, damaged=""):
        for name in "ab":
            folder = board.root / "releases" / name
            folder.mkdir(parents=True, exist_ok=True)
            text = _PROGRAM.format(current=current, trusted=trusted)
            text = "import sys; sys.exit('error: I am damaged.')" if name == damaged else text
            (folder / "edgedistill-device.pyz").write_text(text)
        (board.root / "current").symlink_to("releases/b")
        return board

    return write


@pytest.mark.parametrize("work", [status, rollback])
def test_damaged_program_does_not_stop_the_brake(with_programs, work):
    """That of another release does the work."""
    found = _ask(work, with_programs(damaged="b"))

    assert (found.code, found.message) == (0, "")
    assert (found.current, found.releases) == ("b", ("a", "b"))


@pytest.mark.parametrize("work", [status, rollback])
def test_warning_where_a_signer_lost_trust(with_programs, work):
    """Exit code 0 all the same: nothing is in the way of a rollback."""
    found = _ask(work, with_programs(trusted=False))

    assert (found.code, found.untrusted) == (0, ("a", "b"))
    assert "b runs, and its signer me IS NO LONGER TRUSTED there" in found.message


def test_warning_where_the_current_release_is_gone(with_programs):
    """With the command that mends it."""
    found = _ask(status, with_programs(current="c"))

    assert (found.code, found.current) == (0, "c")
    assert "c is current, and its folder is gone. Run `edgedistill rollback" in found.message
