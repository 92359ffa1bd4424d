"""Commands for boards: invalid arguments are refused before the first connection."""

from __future__ import annotations

import io

import pytest

from edgedistill.cli.console import SafeConsole
from edgedistill.cli.deployment_output import print_outcomes, print_statuses, show_events
from edgedistill.deployment.status import BoardStatus
from edgedistill.deployment.steps import Event, Outcome
from edgedistill.io.files import sha256

NOWHERE = "pi@127.0.0.1:1"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("status",), "Name boards as user@host, or an --inventory"),
        (("status", NOWHERE, "--inventory", "x.toml"), "x.toml cannot be read"),
        (("status", NOWHERE, "--group", "home"), "--group chooses from an --inventory"),
        (("status", "@"), "names no board"),
        (("status", NOWHERE, NOWHERE), "is named twice"),
        (("status", NOWHERE, "--jobs", "0"), "jobs is 0"),
        (("status", NOWHERE, "--target", "jetson"), "There is no target 'jetson'"),
        (("rollback", "--inventory", "none.toml"), "cannot be read"),
        (("trust", NOWHERE, "--allowed-signers", "none"), "cannot be read"),
        (("deploy", "none.zip", NOWHERE), "There is no bundle at none.zip"),
        (("deploy", "none.zip", NOWHERE, "--keep", "0"), "keep is 0"),
        (("deploy", "none.zip", NOWHERE, "--runs", "0"), "runs is 0"),
        (("deploy", "none.zip", NOWHERE, "--unsigned", "--allowed-signers", "x"), "no signer"),
    ],
)
def test_invalid_arguments_exit_2(invoke, tmp_path, monkeypatch, arguments, message):
    """With one line on stderr and nothing on stdout."""
    monkeypatch.chdir(tmp_path)

    ran = invoke(*arguments)

    assert (ran.code, ran.stdout) == (2, "")
    assert message in ran.stderr


def test_unreachable_board_has_a_row_and_an_error(invoke):
    """The table has it, stderr has the reason, the exit code is that of a machine error."""
    ran = invoke("status", NOWHERE)

    assert ran.code == 5
    assert NOWHERE in ran.stdout
    assert "failed, 5" in ran.stdout
    assert f"error: {NOWHERE} refused the connection" in ran.stderr


def test_options_win_over_the_inventory(invoke, tmp_path):
    """Options apply to all boards; the group chooses among them."""
    path = tmp_path / "boards.toml"
    path.write_text(
        '[boards.a]\nhost = "127.0.0.1"\nport = 1\ngroups = ["x"]\n[boards.b]\nport = 1\n'
    )

    ran = invoke("status", "--inventory", path, "--group", "x", "--json")

    assert [each["host"] for each in ran.json] == ["a"]
    assert ran.json[0]["code"] == ran.code == 5


EVENTS = (
    Event(host="a", step="connect", state="begun"),
    Event(host="a", step="upload", state="progress", done=1, total=2),
    Event(host="a", step="upload", state="note", text="tries again"),
    Event(host="a", step="upload", state="done"),
    Event(host="b", step="connect", state="failed", text="away"),
)


def test_pipe_gets_a_line_for_each_step(capsys):
    """Steps that only began, and progress in bytes, are not printed."""
    with show_events(["a", "b"]) as tell:
        for event in EVENTS:
            tell(event)

    assert capsys.readouterr().err.splitlines() == [
        "a  upload note: tries again",
        "a  upload done",
        "b  connect failed: away",
    ]


def test_terminal_gets_a_live_table(monkeypatch):
    """A row for each board, also for one that waits; notes stay above the table."""
    stream = io.StringIO()
    monkeypatch.setattr(
        "edgedistill.cli.console.SafeConsole",
        lambda **_: SafeConsole(file=stream, force_terminal=True, width=100),
    )

    with show_events(["a", "b"]) as tell:
        for event in EVENTS[:3]:
            tell(event)
    output = stream.getvalue()

    assert "a: tries again" in output
    assert "waits" in output
    assert "upload" in output


def test_outcomes_have_a_row_for_each_board(capsys):
    """Board, failed step and exit code are in the table; error messages are on stderr."""
    done = Outcome(host="a", step="prune", verdict="kept", release="x-1", current="x-1")
    broken = Outcome(host="b", step="validate", code=4, verdict="broken", message="b breaks.")

    print_outcomes([done, broken])

    output = capsys.readouterr()
    (row,) = (line for line in output.out.splitlines() if line.strip().startswith("a "))
    assert row.split() == ["a", "done", "kept", "x-1", "x-1"]
    assert "validate failed, 4" in output.out
    assert output.err == "error: b breaks.\n"


def test_statuses_list_interrupted_switches_and_missing_trust(capsys):
    """An interrupted switch, no trust, no signature."""
    odd = BoardStatus(host="a", current="x-1", switching=True, trusts=False, free_bytes=3 << 20)

    print_statuses([odd])

    output = capsys.readouterr().out
    assert "a switch was interrupted, trusts no signer yet" in output
    assert "nobody" in output
    assert "3 MiB" in output


def test_status_says_what_a_board_left_by_itself(capsys):
    """When and why, on stderr: it is long."""
    left = {"time": "2026-01-02T03:04:05Z", "reason": "its service did not answer"}

    print_statuses([BoardStatus(host="a", current="x-1", rolled_back="x-2", fallback=left)])

    output = capsys.readouterr()
    assert "left x-2 by itself" in output.out
    assert output.err == (
        "a left x-2 by itself, 2026-01-02T03:04:05Z: its service did not answer.\n"
    )


def test_program_is_written(invoke, tmp_path):
    """One file, with its hash."""
    path = tmp_path / "p.pyz"

    ran = invoke("program", "--out", path, "--json")
    assert ran.json == {
        "out": str(path),
        "size_bytes": path.stat().st_size,
        "sha256": sha256(path),
    }
    ran = invoke("program", "--out", path)
    assert ran.stdout == (f"Wrote {path}: {path.stat().st_size:,} bytes, SHA-256 {sha256(path)}.\n")
