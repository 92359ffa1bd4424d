"""What the commands on files print, for people and for machines, wide and narrow."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from edgedistill.cli import output
from edgedistill.io.files import read_json
from edgedistill.report import from_json


def test_validate_prints_and_writes(invoke, finished, tmp_path):
    """The bundle keeps its contract here too; the report and its page lie where asked."""
    out = tmp_path / "check.json"

    people = invoke("validate", finished.bundle, "--runs", 5, "--out", out)
    machines = invoke("validate", finished.bundle, "--runs", 5, "--out", out, "--json")

    assert people.code == machines.code == 0
    assert "verdict: kept" in people.stdout
    assert f"Wrote {out} and {out.with_suffix('.html')}." in people.stderr
    assert machines.json == read_json(out)
    assert out.with_suffix(".html").read_text("utf-8").startswith("<!DOCTYPE html>")


def test_validate_of_an_alternative(invoke, finished, tmp_path):
    """--model judges another model of the bundle."""
    ran = invoke(
        *("validate", finished.bundle, "--model", "ort-fp32", "--runs", 5, "--json"),
        *("--out", tmp_path / "r.json"),
    )

    assert ran.json["chosen"] == "ort-fp32"


def test_benchmark(invoke, finished):
    """Quantiles with their intervals, and what they were measured with."""
    people = invoke("benchmark", finished.bundle, "--runs", 5, "--threads", 2)
    machines = invoke("benchmark", finished.bundle, "--runs", 5, "--json").json

    assert people.code == 0
    assert re.search(r"p95 +[\d.]+ [µm]s", people.stdout)
    assert "one after the other; 5 runs" in people.stdout
    assert "session: 2 threads, spinning on" in people.stdout
    assert machines["p50_ms"]["value"] <= machines["p99_ms"]["value"]


@pytest.mark.parametrize("command", ["validate", "benchmark"])
def test_a_provider_that_is_not_there(invoke, finished, tmp_path, monkeypatch, command):
    """It is named with those there are, and nothing is measured instead."""
    monkeypatch.chdir(tmp_path)

    ran = invoke(command, finished.bundle, "--provider", "NoSuchExecutionProvider", "--runs", 5)

    assert ran.code == 5
    assert "has no NoSuchExecutionProvider; it has" in ran.stderr
    assert ran.stdout == ""
    assert list(tmp_path.iterdir()) == []


def test_report_draws_the_page_anew(invoke, finished):
    """A run's folder, its result's folder and its report.json are the same to it."""
    file = finished.folder / "result" / "report.json"

    by_folder = invoke("report", finished.folder)
    by_result = invoke("report", file.parent)
    by_file = invoke("report", file, "--json")

    assert by_folder.code == 0
    assert by_folder.stdout.rstrip() in finished.ran.stdout
    assert by_result.stdout == by_folder.stdout
    assert by_file.json == read_json(file)
    assert "Wrote" in by_file.stderr


def test_report_joins_boards(invoke, finished, tmp_path):
    """Each board by its label, or its folder's name; beside the run's stages, which stay whole."""
    result = finished.folder / "result" / "report.json"
    before = result.read_bytes()
    board = tmp_path / "orin" / "report.json"
    invoke("validate", finished.bundle, "--runs", 5, "--out", board)

    ran = invoke("report", finished.folder, "--device", board, "--device", f"pi={board}")
    elsewhere = invoke(
        *("report", result, "--device", board, "--out", tmp_path / "out", "--json"),
    )

    joined = read_json(finished.folder / "boards" / "report.json")
    assert [entry["label"] for entry in joined["boards"]] == ["orin", "pi"]
    assert "orin   kept" in ran.stdout
    assert "engine on pi" in (finished.folder / "boards" / "report.html").read_text("utf-8")
    assert "engine on pi" in (finished.folder / "boards" / "report.md").read_text("utf-8")
    assert elsewhere.json == read_json(tmp_path / "out" / "report.json")
    assert result.read_bytes() == before


def test_report_of_boards_that_share_a_label(invoke, finished, tmp_path):
    """A second one of that name would hide the first: a usage error, before anything is read."""
    ran = invoke("report", finished.folder, "--device", "a=x.json", "--device", "a=y.json")

    assert ran.code == 2
    assert "has the label 'a', which is empty or taken" in ran.stderr


def test_report_out_is_for_boards(invoke, finished, tmp_path):
    """Without a board there is nothing to join."""
    ran = invoke("report", finished.folder, "--out", tmp_path / "out")

    assert ran.code == 2
    assert "--out is the folder of a joined report" in ran.stderr


def test_report_of_nothing_is_3(invoke, tmp_path):
    """The path is named."""
    ran = invoke("report", tmp_path / "none")

    assert ran.code == 3
    assert f"Cannot read {tmp_path / 'none'}" in ran.stderr


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("model/student.onnx", ("series float32 (batch, 1, 24)", "logits float32 (batch, 2)")),
        ("student/weights.safetensors", ("safetensors", "head.weight", "(2, 4)")),
        ("result/bundle.zip", ("ort-int8", "class_names", "1, 2", "max_kl 100", "Conv 3")),
    ],
)
def test_inspect(invoke, finished, path, says):
    """Inputs, outputs, parameters, size, operators; in words, not in Python."""
    people = invoke("inspect", finished.folder / path)
    machines = invoke("inspect", finished.folder / path, "--json").json

    assert people.code == 0
    for words in says:
        assert words in people.stdout
    assert "{" not in people.stdout
    assert "None" not in people.stdout
    assert machines["size_bytes"] > 0


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


def test_many_models_stand_below_each_other(finished, capsys, monkeypatch):
    """A line each, with its whole name, where columns would have no room."""
    monkeypatch.setenv("FORCE_COLOR", "1")  # as on a terminal, whose width counts
    monkeypatch.setenv("COLUMNS", "100")
    report = from_json(read_json(finished.folder / "result" / "report.json"))
    known = report.candidates[0]
    names = [f"ort-int8-of-another-kind-{number}" for number in range(12)]

    output.print_report(
        replace(report, candidates=tuple(replace(known, name=n) for n in names), chosen=names[0])
    )

    text = re.sub(r"\x1b\[[\d;]*m", "", capsys.readouterr().out)
    lines = [line.split() for line in text.splitlines()]
    assert [line[0] for line in lines if line and line[0] in names] == names
    assert max(map(len, text.splitlines())) <= 100
    assert "Pearson" in text[: text.index("Contract")]


def test_an_error_stands_alone(invoke):
    """Where nothing was begun, stderr is the message and nothing else."""
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
def test_shown(value, words):
    """Values in words."""
    assert output.to_text(value) == words
