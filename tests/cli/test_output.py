"""Tables for people, wide and narrow, and JSON for machines."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from edgedistill.cli import output
from edgedistill.io.files import read_json
from edgedistill.report import from_json

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("columns", "intervals"),
    [(80, 0), (120, 1), (200, 1)],
)
def test_models_side_by_side_fit_the_window(finished, capsys, monkeypatch, columns, intervals):
    """Figures are never cut: intervals stand beside, below, or not at all."""
    monkeypatch.setenv("FORCE_COLOR", "1")  # as on a terminal, whose width counts
    monkeypatch.setenv("COLUMNS", str(columns))
    report = from_json(read_json(finished.folder / "result" / "report.json"))

    output.print_report(report)

    text = re.sub(r"\x1b\[[\d;]*m", "", capsys.readouterr().out)
    table = text[: text.index("Contract")]
    assert max(map(len, text.splitlines())) <= columns
    assert "…" not in text
    row = next(line for line in table.splitlines() if "Accuracy" in line)
    assert row.count("%") == 5 * (2 if columns == 200 else 1)
    assert (" to " in table) == bool(intervals)
    assert ("A wider window" in table) != bool(intervals)


def test_many_models_are_listed_below_each_other(finished, capsys, monkeypatch):
    """One line for each, with its whole name, where columns have no room."""
    monkeypatch.setenv("FORCE_COLOR", "1")  # as on a terminal, whose width counts
    monkeypatch.setenv("COLUMNS", "100")
    report = from_json(read_json(finished.folder / "result" / "report.json"))
    model = report.candidates[0]
    names = [f"ort-int8-of-another-kind-{number}" for number in range(12)]

    output.print_report(
        replace(report, candidates=tuple(replace(model, name=n) for n in names), chosen=names[0])
    )

    text = re.sub(r"\x1b\[[\d;]*m", "", capsys.readouterr().out)
    lines = [line.split() for line in text[: text.index("Contract")].splitlines()]
    assert [line[0] for line in lines if line and line[0] in names] == names
    assert max(map(len, text.splitlines())) <= 100
    assert "Pearson" in text[: text.index("Contract")]


def test_error_is_all_of_stderr(invoke):
    """Without a progress bar, stderr is the message alone."""
    ran = invoke("compress", "--data", "none.npz")

    assert ran.stderr == "error: none.npz does not exist. Check the path.\n"


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (True, "yes"),
        (False, "no"),
        (1234567, "1,234,567"),
        (0.000123456, "0.0001235"),
        (["a", "b"], "a, b"),
        ({"kd": 0.9, "tsd": None, "rest": []}, "kd 0.9"),
        ("text", "text"),
    ],
    ids=str,
)
def test_values_are_formatted(value, words):
    """Values in words."""
    assert output.to_text(value) == words
