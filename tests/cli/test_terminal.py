"""Foreign words reach no terminal raw, whichever command prints them."""

from __future__ import annotations

import csv
import io

import pytest
from rich.text import Text

from edgedistill.cli import run
from edgedistill.cli.console import SafeConsole
from edgedistill.cli.deployment_output import print_outcomes, print_statuses, show_events
from edgedistill.cli.output import print_facts, print_rows
from edgedistill.deployment.status import BoardStatus
from edgedistill.deployment.steps import Event, Outcome
from edgedistill.device.__main__ import main as device
from edgedistill.experiment import results
from edgedistill.experiment.results import Row

HOSTILE = "\x1b[2J\x1b]0;owned\x07\u202eevil\u2066\x9b\r"
SHOWN = r"\x1b[2J\x1b]0;owned\u202eevil\u2066\x9b"  # rich leaves out bells itself


def _printed(capsys: pytest.CaptureFixture[str]) -> str:
    """Return what was printed, on both streams, without the ends of lines."""
    captured = capsys.readouterr()
    text = captured.out + captured.err
    raw = [each for each in text if not each.isprintable() and each not in "\n\t"]
    assert raw == []
    return text


def test_boards(capsys):
    """Their names, releases, signers and messages: `status`, `rollback`, `trust`, `deploy`."""
    words = dict.fromkeys(("host", "message", "current", "previous", "verdict"), HOSTILE)

    print_statuses([BoardStatus(**words, code=5, signer=HOSTILE, program=HOSTILE)])
    print_outcomes([Outcome(host=HOSTILE, code=5, message=HOSTILE, release=HOSTILE)])
    with show_events(["board"]) as show:
        show(Event(host=HOSTILE, step="install", state="note", text=HOSTILE))

    assert _printed(capsys).count(r"\x1b") > 10


def test_tables(capsys):
    """Of `inspect`, `compare`, `benchmark`: titles, heads, names and values."""
    print_facts(HOSTILE, [(HOSTILE, HOSTILE)])
    print_rows(HOSTILE, (HOSTILE, "x"), [(HOSTILE, HOSTILE)])

    assert _printed(capsys).count(r"\x1b[2J") == 7


def test_colors_of_ours_stay():
    """Only the words are changed."""
    file = io.StringIO()
    console = SafeConsole(file=file, force_terminal=True, color_system="standard", width=80)

    console.print(Text(HOSTILE, "red"))

    assert file.getvalue() == f"\x1b[31m{SHOWN}\x1b[0m\n"


@pytest.mark.parametrize(
    "arguments",
    [["inspect"], ["validate"], ["verify", "--allowed-signers", __file__], ["report"]],
    ids=str,
)
def test_errors(arguments, tmp_path, capsys):
    """Here of a file whose name is hostile."""
    path = tmp_path / HOSTILE.replace("/", "")
    path.write_text("x")

    assert run([arguments[0], str(path), *arguments[1:]]) != 0

    assert r"\x1b[2J" in _printed(capsys)


@pytest.mark.parametrize("command", ["validate", "predict", "benchmark"])
def test_errors_on_the_board(command, tmp_path, capsys):
    """The device program has the same mouth."""
    path = tmp_path / HOSTILE.replace("/", "")
    path.write_text("x")

    assert device([command, str(path), *(["-"] if command == "predict" else [])]) != 0

    assert r"\x1b[2J" in _printed(capsys)


def test_results_of_an_experiment_are_no_formulas(tmp_path):
    """A spreadsheet computes nothing that an error says."""
    row = Row(set="s", method="m", seed=0, error="=1+1", numbers={})

    results.write(tmp_path / "results.csv", [row])

    (cells,) = csv.DictReader((tmp_path / "results.csv").read_text().splitlines())
    assert cells["error"] == "'=1+1"
