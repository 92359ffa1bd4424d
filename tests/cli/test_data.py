"""What was read is shown: by `inspect`, and at the start of every run that reads data."""

from __future__ import annotations

import json

import numpy as np
import pytest

COUNTS = "classes: fault 1/0/1, ok 128/32/40 (training/validation/test)"
LACKING = "The validation split has no series of 'fault'"
IMBALANCED = "Classes are imbalanced, 128 to 1: training has 128 series of 'ok' and 1 of 'fault'."
FAST = (
    *("--set", "teacher.width=4", "--set", "teacher.training.epochs=1"),
    *("--set", "teacher.training.accelerator=cpu", "--set", "references.ceiling=false"),
)


@pytest.fixture
def table(tmp_path, rng):
    """200 series of one class, and two of the other."""
    path = tmp_path / "rare.csv"
    rows = rng.normal(size=(202, 20)).round(4).astype(str)
    labels = ["ok"] * 100 + ["fault"] * 2 + ["ok"] * 100
    lines = [",".join([label, *row]) for label, row in zip(labels, rows, strict=True)]
    path.write_text("\n".join([",".join(["label", *map("t{}".format, range(20))]), *lines]))
    return path


def test_inspect_shows_what_a_run_would_read(invoke, table):
    """Shape, splits and classes as tables, then warnings; nothing is on stderr."""
    ran = invoke("inspect", table)

    assert ran.code == 0, ran.stderr
    assert "129 training, 32 validation, 41 test" in ran.stdout
    assert "1 channel, 20 time steps" in ran.stdout
    assert f"warning: {LACKING}" in ran.stdout
    assert f"warning: {IMBALANCED}" in ran.stdout
    assert ran.stderr == ""


def test_inspect_for_machines(invoke, table):
    """The keys of `data` in a report."""
    facts = invoke("inspect", table, "--json").json

    assert (facts["kind"], facts["path"]) == ("data", str(table))
    assert facts["series_per_class"] == {
        "fault": {"train": 1, "validation": 0, "test": 1},
        "ok": {"train": 128, "validation": 32, "test": 40},
    }
    assert [text.startswith((LACKING, IMBALANCED)) for text in facts["warnings"]] == [
        True,
        False,
        True,
    ]


def test_inspect_of_a_set_by_name(invoke):
    """A bundled set without faults has no warnings."""
    ran = invoke("inspect", "GunPoint", "--set", "data.length=75")

    assert ran.code == 0, ran.stderr
    assert "1 channel, 75 time steps" in ran.stdout
    assert "150 time steps" in ran.stdout
    assert "warning" not in ran.stdout


def test_inspect_takes_test_series(invoke, table, tmp_path):
    """Of a file of their own."""
    test = tmp_path / "test.csv"
    test.write_text("\n".join(table.read_text().splitlines()[:103]))

    facts = invoke("inspect", table, "--test", test, "--json").json

    assert facts["series_per_class"]["fault"] == {"train": 1, "validation": 1, "test": 2}


def test_inspect_of_a_folder(invoke, tmp_path, rng):
    """The set that it holds."""
    values = {"x": rng.normal(size=(20, 2, 12)), "y": np.array(["a", "b"] * 10)}
    for split in ("TRAIN", "TEST"):
        np.savez(tmp_path / f"toys_{split}.npz", **values)

    facts = invoke("inspect", tmp_path, "--json").json

    assert (facts["name"], facts["channels"], facts["length"]) == ("toys", 2, 12)


def test_what_each_column_was_taken_for_is_shown(invoke, tmp_path, rng):
    """In words and in JSON: an identifier is no value."""
    path = tmp_path / "table.csv"
    rows = rng.normal(size=(20, 8)).round(3).tolist()
    lines = [",".join(map(str, [k, "ab"[k % 2], *row])) for k, row in enumerate(rows)]
    path.write_text("\n".join(["id,state,t0,t1,t2,t3,t4,t5,t6,t7", *lines]))

    people = invoke("inspect", path, "--set", "data.label=state")
    columns = invoke("inspect", path, "--set", "data.label=state", "--json").json["columns"]

    assert people.code == 0, people.stderr
    assert "id: id (usual name); label: state (data.label); values: t0 to t7" in people.stdout
    assert {column["name"]: column["role"] for column in columns} == {
        "id": "id",
        "state": "label",
        "t0 to t7": "values",
    }


def test_unused_arrays_are_reported(invoke, tmp_path, rng):
    """A weight for each series, say."""
    x, y = rng.normal(size=(20, 12)), np.array(["a", "b"] * 10)
    np.savez(tmp_path / "toys.npz", x=x, y=y, weights=np.ones(20))

    ran = invoke("inspect", tmp_path / "toys.npz")

    assert ran.code == 0, ran.stderr
    assert "note: Nothing uses the array 'weights'." in ran.stdout


@pytest.mark.parametrize("option", [("--test", "x.csv"), ("--set", "data.length=3")], ids=str)
def test_options_of_data_are_refused_for_a_model(invoke, tmp_path, option):
    """They would have no effect."""
    path = tmp_path / "model.onnx"
    path.touch()

    ran = invoke("inspect", path, *option)

    assert ran.code == 2
    assert f"{path} is a model" in ran.stderr


def test_inspect_of_nothing_names_what_there_is(invoke, tmp_path):
    """As every command that reads data does."""
    ran = invoke("inspect", "GunPont")

    assert ran.code == 3
    assert "Did you mean 'GunPoint'?" in ran.stderr
    assert invoke("inspect", tmp_path / "none.csv").code == 3


@pytest.mark.slow
def test_a_run_starts_with_what_was_read(invoke, table, tmp_path):
    """On stderr before any progress, also without a terminal; `--json` has the same facts."""
    ran = invoke("train", "--data", table, *FAST, "--out", tmp_path / "teacher", "--json")

    assert ran.code == 0, ran.stderr
    lines = ran.stderr.splitlines()
    assert lines[0] == "data: rare; 129 training, 32 validation, 41 test; 1 channel, 20 time steps"
    assert lines[1] == COUNTS
    assert lines[2] == "test series: split off the training data here, class by class"
    assert lines[3] == "columns: label: label (usual name); values: t0 to t19"
    assert lines[4].endswith(
        "missing values: none; flat once normalized: none; lost in float32: none"
    )
    assert lines[5].startswith(f"warning: {LACKING}")
    assert lines[7].startswith(f"warning: {IMBALANCED}")
    assert "train teacher" in ran.stderr.partition(IMBALANCED)[2]
    facts = invoke("inspect", table, "--json").json
    assert ran.json["data"] == {key: facts[key] for key in facts if key not in {"kind", "path"}}


@pytest.mark.slow
def test_report_holds_what_was_read(finished):
    """The run printed it, the report has it, and so has the page."""
    report = json.loads((finished.folder / "result" / "report.json").read_text())

    assert finished.ran.stderr.startswith("data: ItalyPowerDemand; ")
    assert report["data"]["series_per_class"]["1"] == {"train": 16, "validation": 4, "test": 20}
    (warning,) = report["data"]["warnings"]
    assert f"warning: {warning}" in finished.ran.stderr
    assert (
        "too few to tell how well such are recognized"
        in (finished.folder / "result" / "report.html").read_text()
    )
