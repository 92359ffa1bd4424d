"""The experiment command runs a plan, exits with a code on failures, and writes the report."""

from __future__ import annotations

import json
import re
import shlex

import pytest

from edgedistill.cli.experiment import experiment
from edgedistill.experiment.results import RESULTS

pytestmark = pytest.mark.slow

PLAN = """\
recipe:
  data: {limit_per_class: 8}
  teacher: {width: 5, training: {epochs: 1, accelerator: cpu}}
  student: {width: 4, training: {epochs: 1, accelerator: cpu}}
  references: {ceiling: false}
data: [ItalyPowerDemand]
methods:
  kd: {student: {objectives: [{name: kd}]}}
  cross-entropy: {student: {objectives: [{name: cross_entropy}]}}
  bad: {student: {training: {learning_rate: 1.0e+30}}}
seeds: [1]
"""


@pytest.fixture(scope="module")
def ran(invoke, tmp_path_factory):
    """A tiny experiment of which a method fails, and its folder."""
    folder = tmp_path_factory.mktemp("experiment")
    (folder / "plan.yaml").write_text(PLAN)
    return invoke(
        "experiment", folder / "plan.yaml", "--out", folder / "out", "--jobs", 1, "--json"
    ), folder


def test_plan_without_subcommand_is_run(ran):
    """JSON has the runs; stderr and the exit code have the failure."""
    result, folder = ran

    assert result.code == 1
    assert [run["status"] for run in result.json["runs"]] == ["done", "done", "failed"]
    assert result.json["results"] == str(folder / "out" / RESULTS)
    assert 0 <= result.json["runs"][0]["accuracy"] <= 1
    assert "failed: ItalyPowerDemand, bad, seed 1: " in result.stderr


def test_sets_are_described_before_the_first_teacher(ran):
    """On stderr and in JSON, under their names in the plan."""
    result, _ = ran

    assert result.stderr.startswith("data: ItalyPowerDemand; 12 training, 4 validation, 16 test; ")
    assert result.stderr.index("data: ") < result.stderr.index("teachers")
    (data,) = result.json["data"]
    assert data["series_per_class"]["1"] == {"train": 6, "validation": 2, "test": 8}


def test_run_prints_a_line_for_each_run(ran, invoke):
    """Complete runs are read; without the failing method the exit code is 0."""
    _, folder = ran
    good = folder / "good.yaml"
    good.write_text(re.sub("  bad.*\n", "", PLAN))

    result = invoke("experiment", "run", good, "--out", folder / "out", "--jobs", 1)

    assert result.code == 0
    assert re.search(r"ItalyPowerDemand +cross-entropy +1 +\d\.\d{3}", result.stdout)
    assert result.stdout.splitlines()[-1] == f"wrote {folder / 'out' / RESULTS}"


def test_report_is_written_and_printed(ran, invoke):
    _, folder = ran
    out = folder / "out"

    table = invoke("experiment", "report", out, "--metric", "kl")
    values = invoke("experiment", "report", out, "--metric", "kl", "--json")

    assert table.code == 0, table.stderr
    assert f"page: {out / 'report.html'}" in table.stdout
    assert "kd against cross-entropy" in table.stdout
    assert values.json["metric"] == "kl"
    assert set(values.json["mean_ranks"]) == {"kd", "cross-entropy"}


def test_published_accuracies_are_beside_ours(ran, invoke, tmp_path):
    _, folder = ran
    published = tmp_path / "published.csv"
    published.write_text("set,ResNet\nItalyPowerDemand,0.963\n")

    whole = invoke(
        *("experiment", "report", folder / "out"), "--published", published, "--column", "ResNet"
    )
    half = invoke("experiment", "report", folder / "out", "--published", published)

    assert whole.code == 0, whole.stderr
    assert "96.3 %" in (folder / "out" / "report.md").read_text("utf-8")
    assert half.code == 2
    assert "go together" in half.stderr


def test_error_of_a_plan_has_its_line(invoke, tmp_path):
    path = tmp_path / "plan.yaml"
    path.write_text(PLAN.replace("width: 4", "wdth: 4"))

    result = invoke("experiment", path, "--out", tmp_path / "out")

    assert result.code == 2
    assert f"{path}, line 4: there is no key student.wdth. Did you mean width?" in result.stderr
    assert not (tmp_path / "out").exists()


def test_folder_without_a_table_is_refused(invoke, tmp_path):
    result = invoke("experiment", "report", tmp_path)

    assert result.code == 3
    assert "Name the folder of an experiment" in result.stderr


@pytest.mark.parametrize("command", ["run", "report"])
def test_help_of_each_part_shows_an_example_that_parses(invoke, command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "experiment").mkdir(parents=True)
    text = invoke("experiment", command, "--help").stdout

    (example,) = re.findall(rf"edgedistill experiment {command} (?!\[OPTIONS).*", text)

    experiment.commands[command].make_context(command, shlex.split(example)[3:])


def test_help_option_is_no_plan(invoke):
    result = invoke("experiment", "-h")

    assert result.code == 0
    assert "report" in result.stdout


def test_json_has_no_infinities(ran):
    """What a machine reads is strict JSON."""
    assert json.loads(ran[0].stdout, parse_constant=pytest.fail)
