"""`validate` and `benchmark` on a bundle."""

from __future__ import annotations

import re

import pytest

from edgedistill.io.files import read_json

pytestmark = pytest.mark.slow


def test_validate_prints_and_writes(invoke, finished, tmp_path):
    """The bundle keeps its contract; report and page are at the path of --out."""
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
def test_unavailable_provider_exits_5(invoke, finished, tmp_path, monkeypatch, command):
    """The error lists the available ones, and nothing is measured."""
    monkeypatch.chdir(tmp_path)

    ran = invoke(command, finished.bundle, "--provider", "NoSuchExecutionProvider", "--runs", 5)

    assert ran.code == 5
    assert "has no NoSuchExecutionProvider; it has" in ran.stderr
    assert ran.stdout == ""
    assert list(tmp_path.iterdir()) == []
