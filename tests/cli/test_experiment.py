"""The experiment command runs a plan, tells failures by its exit code, and writes the report."""

from __future__ import annotations

import json
import re
import shlex

import pytest

from edgedistill.cli.experiment import experiment
from edgedistill.experiment.results import RESULTS

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


def test_a_plan_alone_is_run(ran):
    """Runs are told as JSON, the failure on stderr and by the exit code."""
    told, folder = ran

    assert told.code == 1
    assert [run["status"] for run in told.json["runs"]] == ["done", "done", "failed"]
    assert told.json["results"] == str(folder / "out" / RESULTS)
    assert 0 <= told.json["runs"][0]["accuracy"] <= 1
    assert "failed: ItalyPowerDemand, bad, seed 1: " in told.stderr


def test_run_prints_a_line_a_run(ran, invoke):
    """What is done is read; a method less, and all is well."""
    _, folder = ran
    good = folder / "good.yaml"
    good.write_text(re.sub("  bad.*\n", "", PLAN))

    told = invoke("experiment", "run", good, "--out", folder / "out", "--jobs", 1)

    assert told.code == 0
    assert re.search(r"ItalyPowerDemand +cross-entropy +1 +\d\.\d{3}", told.stdout)
    assert told.stdout.splitlines()[-1] == f"wrote {folder / 'out' / RESULTS}"


def test_the_report_is_written_and_told(ran, invoke):
    _, folder = ran
    out = folder / "out"

    table = invoke("experiment", "report", out, "--metric", "kl")
    values = invoke("experiment", "report", out, "--metric", "kl", "--json")

    assert table.code == 0, table.stderr
    assert f"page: {out / 'report.html'}" in table.stdout
    assert "kd against cross-entropy" in table.stdout
    assert values.json["metric"] == "kl"
    assert set(values.json["mean_ranks"]) == {"kd", "cross-entropy"}


def test_published_accuracies_stand_beside_ours(ran, invoke, tmp_path):
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


def test_a_wrong_plan_is_told_with_its_place(invoke, tmp_path):
    path = tmp_path / "plan.yaml"
    path.write_text(PLAN.replace("width: 4", "wdth: 4"))

    told = invoke("experiment", path, "--out", tmp_path / "out")

    assert told.code == 2
    assert f"{path}, line 4: there is no key student.wdth. Did you mean width?" in told.stderr
    assert not (tmp_path / "out").exists()


def test_a_folder_without_a_table_is_told(invoke, tmp_path):
    told = invoke("experiment", "report", tmp_path)

    assert told.code == 3
    assert "Name the folder of an experiment" in told.stderr


@pytest.mark.parametrize("command", ["run", "report"])
def test_help_of_each_part_shows_an_example_that_parses(invoke, command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "experiment").mkdir(parents=True)
    text = invoke("experiment", command, "--help").stdout

    (example,) = re.findall(rf"edgedistill experiment {command} (?!\[OPTIONS).*", text)

    experiment.commands[command].make_context(command, shlex.split(example)[3:])


def test_help_of_the_whole_is_not_taken_for_a_plan(invoke):
    told = invoke("experiment", "-h")

    assert told.code == 0
    assert "report" in told.stdout


def test_json_has_no_infinities(ran):
    """What a machine reads is strict JSON."""
    assert json.loads(ran[0].stdout, parse_constant=pytest.fail)
