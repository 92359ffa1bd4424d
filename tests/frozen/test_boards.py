"""Deployment to a real SSH server on loopback: signed, trusted, switched, taken back."""

from __future__ import annotations

import sys

import pytest

pytestmark = pytest.mark.slow

BUNDLE = "old/run/result/bundle.zip"


@pytest.fixture(scope="module")
def board(home, ssh_server, ssh_key):
    """The options that reach the server as a board; keys and allowed signers lie in `home`."""
    ssh_key(home / "key")
    public = (home / "key.pub").read_text("utf-8")
    (home / "allowed_signers").write_text(f"me@example.org {public}")
    (home / "board").mkdir()
    options = ("--root", home / "board" / "edgedistill", "--python", sys.executable)
    return (ssh_server.address, *ssh_server.options, *options)


@pytest.fixture
def frozen_board(ssh_server, board, replaced, comparing, frozen):
    """Hold what a command said against a golden file; warnings are about this machine."""
    there = {f":{ssh_server.port}": ":<port>", str(ssh_server.folder): "<ssh>", **replaced}

    def check(name, ran):
        stdout = comparing.normalize(ran.json, there) if ran.stdout else None
        for outcome in stdout if isinstance(stdout, list) else ():
            if "warnings" in outcome:
                outcome["warnings"] = "<warnings>"
        stderr = [each for each in comparing.words(ran.stderr, there) if " note: " not in each]
        frozen(name, {"code": ran.code, "stdout": stdout, "stderr": stderr})

    return check


def test_the_whole_way(home, invoke, board, contents, frozen, frozen_board):
    """Each command in its turn, and what is on the board in the end."""
    signers = ("--allowed-signers", "allowed_signers")
    commands = {
        "sign": ("sign", BUNDLE, "--key", "key", "--out", "signed.zip"),
        "verify": ("verify", "signed.zip", *signers),
        "status-before": ("status", *board),
        "deploy-untrusted": ("deploy", "signed.zip", *board, "--out", "boards"),
        "trust": ("trust", *board, *signers),
        "deploy-unsigned": ("deploy", BUNDLE, *board, "--out", "boards"),
        "deploy": ("deploy", "signed.zip", *board, "--runs", "10", "--out", "boards"),
        "deploy-int8": (
            *("deploy", "signed.zip", *board, "--runs", "10", "--out", "boards"),
            *("--model", "ort-int8"),
        ),
        "rollback": ("rollback", *board),
        "status-after": ("status", *board),
    }
    said = {name: invoke(*command, "--json") for name, command in commands.items()}

    for name, ran in said.items():
        frozen_board(f"board-{name}", ran)
    frozen("board-folder", contents(home / "board" / "edgedistill"))
    (report,) = (home / "boards").rglob("report.json")
    frozen("board-reports", contents(report.parent))
