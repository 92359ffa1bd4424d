"""An experiment runs missing jobs, keeps complete ones, and survives a failed run."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from edgedistill.errors import MachineError, UsageError
from edgedistill.experiment import executors, plan, results
from edgedistill.experiment import jobs as tasks
from edgedistill.experiment import run as running
from edgedistill.experiment.results import RESULTS
from edgedistill.io.files import read_json
from edgedistill.pipeline.stages.student import make_student
from edgedistill.report import Data
from edgedistill.training.networks import WEIGHTS

pytestmark = pytest.mark.slow

FIVE = """\
recipe:
  data: {limit_per_class: 12}
  teacher: {width: 6, training: {epochs: 2, accelerator: cpu}}
  student: {width: 4, training: {epochs: 60, accelerator: cpu}}
  references: {ceiling: false}
data: [ItalyPowerDemand]
methods: {kd: {student: {objectives: [{name: kd}]}}}
seeds: [1, 2, 3, 4, 5]
"""


def marks(out: Path) -> dict[str, int]:
    """Return when each stage folder was made, in nanoseconds."""
    return {
        str(path.parent.relative_to(out)): path.stat().st_mtime_ns
        for path in out.rglob("stage.json")
    }


def timeless(rows):
    """Return rows without the time that they took."""
    return [replace(row, numbers={**row.numbers, "seconds": 0.0}) for row in rows]


@pytest.fixture
def copied(finished, tmp_path):
    """A copy of the finished experiment, to change."""
    return Path(shutil.copytree(finished[0], tmp_path / "copied"))


def test_table_has_a_row_for_each_run_in_order(tiny, finished):
    out, rows = finished

    assert [(row.set, row.method, row.seed) for row in rows] == tiny.runs
    assert results.read(out / RESULTS) == rows
    assert (out / running.PLAN).read_text() == tiny.text
    assert read_json(out / running.ENVIRONMENT)["executor"] == "local"
    assert {len(row.numbers) for row in rows} == {len(results.NUMBERS)}


def test_students_of_a_set_share_one_teacher(finished):
    """Its measures stand in all rows of the set; the students differ."""
    out, rows = finished

    teachers = [name for name in marks(out) if name.endswith("/teacher")]
    assert len(teachers) == 2
    for name in ("ItalyPowerDemand", "GunPoint"):
        mine = [row.numbers for row in rows if row.set == name]
        for column in results.REFERENCES:
            assert len({numbers[column] for numbers in mine}) == 1
        assert len({numbers["kl"] for numbers in mine}) == len(mine)


@pytest.mark.slow
def test_two_processes_give_the_rows_of_one(tiny, finished, tmp_path):
    reports = []

    rows = running.run(
        tiny, tmp_path / "out", jobs=2, on_progress=lambda *each: reports.append(each)
    )

    assert timeless(rows) == timeless(finished[1])
    assert reports[0] == ("teachers", 1, 2)
    assert reports[-1] == ("runs", 8, 8)
    assert not list(tmp_path.rglob(".work"))


def test_complete_runs_are_not_repeated(tiny, finished, in_process, copied):
    before = marks(copied)

    rows = running.run(tiny, copied)

    assert rows == finished[1]
    assert marks(copied) == before


def test_only_a_changed_method_is_repeated(tiny, in_process, copied):
    before = marks(copied)
    changed = plan.parse(tiny.text.replace("[{name: kd}]", "[{name: kd, temperature: 2}]"))

    running.run(changed, copied)

    after = marks(copied)
    redone = {name for name in before if after[name] != before[name]}
    assert redone == {f"runs/{s}/kd-{n}" for s in ("ItalyPowerDemand", "GunPoint") for n in (1, 2)}


def test_student_is_repeated_when_an_extra_teacher_changed(finished, in_process, tmp_path):
    source = tmp_path / "second"
    students = finished[0] / "runs" / "ItalyPowerDemand"
    shutil.copytree(students / "kd-1", source)
    term = f"{{name: ensemble, sources: [{source}]}}"
    found = plan.parse(
        FIVE.replace("{name: kd}", term).replace("60", "1").replace("2, 3, 4, 5", "")
    )
    (first,) = running.run(found, tmp_path / "out")
    before = marks(tmp_path / "out")

    shutil.copyfile(students / "kd-2" / WEIGHTS, source / WEIGHTS)
    (second,) = running.run(found, tmp_path / "out")

    after = marks(tmp_path / "out")
    assert (first.error, second.error) == (None, None)
    assert [name for name in before if after[name] != before[name]] == [
        "runs/ItalyPowerDemand/kd-1"
    ]
    assert first.numbers["kl"] != second.numbers["kl"]


def test_damaged_student_is_repeated(tiny, finished, in_process, copied):
    scores = copied / "runs" / "GunPoint" / "kd-1" / "scores.json"
    scores.write_text("{}")

    rows = running.run(tiny, copied)

    assert timeless(rows) == timeless(finished[1])


def test_failed_run_is_a_row_and_stops_no_other(tiny, in_process, copied):
    bad = "  bad: {student: {training: {learning_rate: 1.0e+30}}}\nseeds: [1]"
    broken = plan.parse(tiny.text.replace("seeds: [1, 2]", bad))

    rows = running.run(broken, copied)

    failed = [row for row in rows if row.error is not None]
    assert [(row.set, row.method) for row in failed] == [
        ("ItalyPowerDemand", "bad"),
        ("GunPoint", "bad"),
    ]
    assert all("became nan" in row.error for row in failed)
    assert len(rows) == 6
    assert results.read(copied / RESULTS) == rows
    assert all("accuracy" not in row.numbers for row in failed)


def test_unreadable_set_fails_alone(tiny, in_process, copied):
    broken = plan.parse(tiny.text.replace("GunPoint]", "missing.npz]"))

    described: list[Data] = []

    rows = running.run(broken, copied, on_data=described.append)

    assert [data.name for data in described] == ["ItalyPowerDemand"]
    assert [row.error for row in rows[:4]] == [None] * 4
    assert {row.error for row in rows[4:]} == {"missing.npz does not exist. Check the path."}


def test_sets_are_described_under_their_names_in_the_plan(tiny, in_process, copied):
    """Before anything is made, also if all is there."""
    events: list[str] = []
    named = plan.parse(
        tiny.text.replace("[ItalyPowerDemand, GunPoint]", "{italy: {data: ItalyPowerDemand}}")
    )

    running.run(
        named,
        copied,
        on_data=lambda data: events.append(data.name),
        on_progress=lambda stage, *_: events.append(stage),
    )

    assert events[0] == "italy"
    assert events.count("italy") == 1


def test_unexpected_error_is_a_row_too(tiny, in_process, copied):
    knowledge = copied / "runs" / "GunPoint"
    shutil.rmtree(knowledge)
    knowledge.mkdir()
    (knowledge / ".work").touch()  # a file where a folder must be

    rows = running.run(tiny, copied)

    assert all(row.error.startswith("FileExistsError: ") for row in rows if row.set == "GunPoint")


@pytest.mark.parametrize(
    ("term", "kept"),
    [
        ("{name: tsd, windows: 4, width: 6, bank: 2}", "bank.json"),
        ("{name: cutmix_kd, windows: 4, width: 6, bank: 2}", "bank.json"),
        ("{name: tsd_maps, widths: [5]}", "signed.npy"),
    ],
)
def test_caches_are_filled_before_the_first_student(in_process, tmp_path, monkeypatch, term, kept):
    """Otherwise parallel students would all compute them at once."""
    found = []

    def watched(*arguments, **more):
        found.append(len(list(tmp_path.rglob(kept))))
        make_student(*arguments, **more)

    monkeypatch.setattr(tasks, "make_student", watched)
    text = FIVE.replace("{name: kd}", term)
    text = text.replace("epochs: 60", "epochs: 1").replace("1, 2, 3, 4, 5", "1, 2")

    rows = running.run(plan.parse(text), tmp_path)

    assert [row.error for row in rows] == [None, None]
    assert found == [1, 1]


def test_window_cache_of_a_set_is_computed_once(in_process, tmp_path):
    text = FIVE.replace("{name: kd}", "{name: tsd, windows: 4, width: 6, bank: 2}")
    text = text.replace("epochs: 60", "epochs: 1").replace("1, 2, 3, 4, 5", "1, 2")

    running.run(plan.parse(text), tmp_path)

    (bank,) = tmp_path.rglob("bank.json")
    teacher = tmp_path / "runs" / "ItalyPowerDemand" / "teacher" / "stage.json"
    first = tmp_path / "runs" / "ItalyPowerDemand" / "kd-1" / "stage.json"
    assert teacher.stat().st_mtime_ns < bank.stat().st_mtime_ns < first.stat().st_mtime_ns


@pytest.mark.slow
def test_killed_experiment_resumes(in_process, tmp_path):
    """Complete folders stay, and the table equals that of an uninterrupted run."""
    five, out = plan.parse(FIVE), tmp_path / "out"
    (tmp_path / "plan.yaml").write_text(FIVE)
    command = [sys.executable, "-m", "edgedistill", "experiment", str(tmp_path / "plan.yaml")]
    killed = subprocess.Popen([*command, "--out", str(out), "--jobs", "1"], stderr=subprocess.PIPE)
    for _ in range(1200):
        if (out / RESULTS).exists() and len(results.read(out / RESULTS)) >= 1:
            break
        time.sleep(0.1)
    killed.kill()
    killed.communicate()
    time.sleep(1)  # until its process has seen it
    before = marks(out)
    done = len(results.read(out / RESULTS))
    assert 1 <= done < 5

    rows = running.run(five, out)

    after = marks(out)
    assert all(after[name] == mark for name, mark in before.items())
    straight = running.run(five, tmp_path / "straight")
    assert timeless(rows) == timeless(straight)


def test_invalid_number_of_jobs_is_refused(tiny, tmp_path):
    with pytest.raises(UsageError, match="jobs is 0"):
        running.run(tiny, tmp_path, jobs=0)
    with pytest.raises(UsageError, match=r"jobs is 2; .* local executor alone"):
        running.run(tiny, tmp_path, jobs=2, executor="ray")


def test_dead_process_is_an_error(tiny, tmp_path, monkeypatch):
    local = executors.local

    @contextmanager
    def dying(jobs):
        with local(jobs) as submit:
            yield lambda *_: submit(os._exit, 1)

    monkeypatch.setattr(executors, "local", dying)

    with pytest.raises(MachineError, match="died, maybe for want of memory"):
        running.run(tiny, tmp_path)
