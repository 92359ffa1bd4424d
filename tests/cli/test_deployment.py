"""The commands for boards: what makes no sense is said before anybody is connected to."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from edgedistill.cli.deployment_output import print_outcomes, print_statuses, show_events
from edgedistill.deployment.outcome import Event, Outcome
from edgedistill.deployment.status import BoardStatus

NOWHERE = "pi@127.0.0.1:1"


@pytest.mark.parametrize(
    ("arguments", "told"),
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
def test_what_makes_no_sense_is_2(invoke, tmp_path, monkeypatch, arguments, told):
    """With one line on stderr and nothing on stdout."""
    monkeypatch.chdir(tmp_path)

    ran = invoke(*arguments)

    assert (ran.code, ran.stdout) == (2, "")
    assert told in ran.stderr


def test_a_board_that_is_away_has_a_row_and_a_message(invoke):
    """The table names it, stderr says why, the exit code is the machine's."""
    ran = invoke("status", NOWHERE)

    assert ran.code == 5
    assert NOWHERE in ran.stdout
    assert "failed, 5" in ran.stdout
    assert f"error: {NOWHERE} refused the connection" in ran.stderr


def test_options_win_over_the_inventory(invoke, tmp_path):
    """As a person who types one expects; the group chooses who is asked."""
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


def test_a_pipe_gets_a_line_for_each_step(capsys):
    """What only just began, and bytes, are nobody's line."""
    with show_events(["a", "b"]) as tell:
        for event in EVENTS:
            tell(event)

    assert capsys.readouterr().err.splitlines() == [
        "a  upload note: tries again",
        "a  upload done",
        "b  connect failed: away",
    ]


def test_a_terminal_gets_a_table_that_changes(monkeypatch):
    """A row a board, also for one that waits; notes stay above it."""
    stream = io.StringIO()
    monkeypatch.setattr(
        "rich.console.Console",
        lambda **_: Console(file=stream, force_terminal=True, width=100),
    )

    with show_events(["a", "b"]) as tell:
        for event in EVENTS[:3]:
            tell(event)
    said = stream.getvalue()

    assert "a: tries again" in said
    assert "waits" in said
    assert "upload" in said


def test_how_it_ended_is_a_row_a_board(capsys):
    """Who failed, where, and with which code; messages are apart."""
    done = Outcome(host="a", step="prune", verdict="kept", release="x-1", current="x-1")
    broken = Outcome(host="b", step="validate", code=4, verdict="broken", message="b breaks.")

    print_outcomes([done, broken])

    said = capsys.readouterr()
    (row,) = (line for line in said.out.splitlines() if line.strip().startswith("a "))
    assert row.split() == ["a", "done", "kept", "x-1", "x-1"]
    assert "validate failed, 4" in said.out
    assert said.err == "error: b breaks.\n"


def test_how_boards_stand_names_what_is_odd(capsys):
    """An interrupted switch, no trust, no signature."""
    odd = BoardStatus(host="a", current="x-1", switching=True, trusts=False, free_bytes=3 << 20)

    print_statuses([odd])

    said = capsys.readouterr().out
    assert "a switch was interrupted, trusts no signer yet" in said
    assert "nobody" in said
    assert "3 MiB" in said
