"""Login shells that print, boards without SFTP, and servers that allow one session."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from dataclasses import replace

import pytest

from edgedistill.deployment import status as module
from edgedistill.deployment.connection import SshOptions
from edgedistill.deployment.deploy import deploy
from edgedistill.deployment.doctor.diagnosis import collect_from_board
from edgedistill.deployment.hosts import parse
from edgedistill.deployment.payload import prepare_payload
from edgedistill.deployment.steps import Request
from edgedistill.errors import MachineError

pytestmark = pytest.mark.slow

NOISY = r"""
echo "Welcome to $(uname -n)!"
echo '{"verdict": "kept"}'
printf 'no line feed'
printf 'error: not an error\n' >&2
set -x
trap 'echo Goodbye; echo error: goodbye >&2' EXIT
"""
LINGERING = "sleep 30 &\n"
SILENCING = "exec 2>/dev/null\n"


@pytest.fixture
def board_of(other_ssh_server, board):
    """Return a board behind a server with further configuration."""

    def make(*lines: str):
        server = other_ssh_server(*lines)
        host = parse(server.address, root=str(board.root), python=sys.executable)
        access = SshOptions(identity=server.key, known_hosts=server.known_hosts)
        return replace(board, host=host, access=access)

    return make


@pytest.fixture
def board_with_shell(board_of, tmp_path):
    """Return a board whose login shell runs lines before each command."""

    def make(lines: str):
        startup = tmp_path / "startup"
        startup.write_text(lines)
        shell = tmp_path / "login-shell"
        shell.write_text(f'#!/bin/bash\n. {startup}\neval "$SSH_ORIGINAL_COMMAND"\n')
        shell.chmod(0o755)
        return board_of(f"ForceCommand {shell}")

    return make


def _plain_ssh(board, command: str) -> str:
    """Return what OpenSSH's client shows of a command there."""
    options = ["-i", board.access.identity, "-o", f"UserKnownHostsFile={board.access.known_hosts}"]
    where = ["-p", str(board.host.port), f"{board.host.user}@{board.host.address}", command]
    return subprocess.run(["ssh", *options, *where], capture_output=True, text=True).stdout


def test_output_is_apart_from_what_the_login_shell_prints(board_with_shell):
    """Before and after the command, on both streams."""
    board = board_with_shell(NOISY)
    lines = []

    script = 'cat; printf "a\\nb"; echo c >&2; exit 7'
    found = board.run(
        lambda connection: connection.run(["sh", "-c", script], stdin="in ", on_line=lines.append)
    )

    shown = _plain_ssh(board, "echo here")
    assert "Welcome" in shown, "otherwise this test shows nothing"
    assert "Goodbye" in shown
    assert (found.code, found.stdout) == (7, "in a\nb")
    assert (found.stderr, lines) == ("c\n", ["c"])


@pytest.mark.parametrize("lines", [LINGERING, SILENCING], ids=["lingering", "silencing"])
def test_shell_that_keeps_or_closes_the_streams(board_with_shell, lines):
    """The result is there when the command is, not when the last process is."""
    board = board_with_shell(lines)

    found = board.run(lambda connection: connection.run(["echo", "here"], timeout_s=10))

    assert (found.code, found.stdout) == (0, "here\n")


def test_shell_that_reads_the_input_is_named(board_with_shell):
    """It would take the input of the command."""
    board = board_with_shell("echo 'Your name?'; read -r name")

    with pytest.raises(MachineError, match=r"did not end .* printed: Your name\?"):
        board.run(lambda connection: connection.run(["cat"], stdin="lost", timeout_s=1))


def test_whole_way_through_a_shell_that_prints(board_with_shell, bundles, signer):
    """Deploy, status and doctor, on a board that has no SFTP either."""
    board = board_with_shell(NOISY)
    signers = signer.with_name("allowed_signers").read_text()

    with prepare_payload(bundles["first"]) as payload:
        outcome = asyncio.run(
            deploy(payload, board.host, board.access, Request(signers=signers, runs=3), print)
        )
    status = asyncio.run(module.status(board.host, board.access))
    facts = board.run(collect_from_board)

    assert (outcome.code, outcome.message) == (0, "")
    assert (status.code, status.current, status.verdict) == (0, outcome.release, "kept")
    assert facts["python"]["executable"]


def test_server_that_allows_one_session(board_of, bundles):
    """What takes a command at a time works; a deployment, which holds a lock, names the way out."""
    board = board_of("MaxSessions 1")

    with prepare_payload(bundles["first"]) as payload:
        outcome = asyncio.run(
            deploy(payload, board.host, board.access, Request(unsigned=True, runs=3), print)
        )
    status = asyncio.run(module.status(board.host, board.access))

    assert outcome.code == 5
    assert "remove MaxSessions from /etc/ssh/sshd_config" in outcome.message
    assert status.code == 0
