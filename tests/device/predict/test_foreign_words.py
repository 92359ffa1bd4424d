"""Class names, ids and errors are data of others: no terminal and no spreadsheet obeys them."""

from __future__ import annotations

import csv
import json

import pytest

from edgedistill.device.__main__ import main

pytestmark = pytest.mark.slow

VALUES = [1] * 24
CLASS_NAMES = ("\x1b[2Jwinter\u202e", "\x1b[2Jsummer\u202e")
FORMULAS = ("=HYPERLINK(1)", "@SUM(A1)")


@pytest.fixture
def series(tmp_path):
    """Two series, the second one bad, both with hostile ids."""
    path = tmp_path / "x.jsonl"
    lines = (
        json.dumps({"id": "=1+1\x1b[2J", "series": VALUES}),
        json.dumps({"id": "-5", "series": VALUES}),
        json.dumps({"\x1b[2J": 1}),
    )
    path.write_text("\n".join(lines))
    return path


@pytest.mark.parametrize("words", [[], ["--csv"], ["--json"]])
def test_predictions(words, world, series, tmp_path, capsys):
    """In tables, CSV and JSON, on stdout and stderr."""
    bundle = world.write(tmp_path / "b.zip", class_names=CLASS_NAMES)

    main(["predict", str(bundle), str(series), *words])

    printed = "".join(capsys.readouterr())
    assert [each for each in printed if not each.isprintable() and each != "\n"] == []
    assert "summer" in printed


def test_validation(world, tmp_path, capsys):
    """Its table."""
    bundle = world.write(tmp_path / "b.zip", class_names=CLASS_NAMES, name="\x1b[2Jname")

    main(["validate", str(bundle), "--runs", "3", "--out", str(tmp_path / "report.json")])

    printed = "".join(capsys.readouterr())
    assert [each for each in printed if not each.isprintable() and each != "\n"] == []


def test_cells_are_no_formulas(world, series, tmp_path, capsys):
    """An apostrophe stands before what a spreadsheet would compute; numbers are as they were."""
    bundle = world.write(tmp_path / "b.zip", class_names=FORMULAS)

    main(["predict", str(bundle), str(series), "--csv"])

    first, second = csv.DictReader(capsys.readouterr().out.splitlines())
    assert first["id"] == r"'=1+1\x1b[2J"
    assert second["id"] == "-5"
    assert first["class"][0] == "'"
