"""From what was measured to the report."""

from __future__ import annotations

from dataclasses import fields, replace

import jsonschema
import numpy as np
import pytest

from edgedistill.evaluation.contract import Contract, judge
from edgedistill.io.files import read_json
from edgedistill.pipeline.stages.evaluate import clause_values
from edgedistill.pipeline.stages.report import make_report, write_report
from edgedistill.report import from_json, schema

IMPOSSIBLE = Contract(**{**dict.fromkeys((f.name for f in fields(Contract)), None), "max_kl": -1.0})


@pytest.fixture
def broken_on_test(outcome):
    """A variant that was chosen on validation series and then breaks the contract."""
    clauses = judge(IMPOSSIBLE, clause_values(outcome.variants[outcome.judged_name]))
    return replace(outcome, clauses=clauses)


@pytest.fixture
def broken(outcome, broken_on_test):
    """No variant kept the contract on validation series."""
    failed = tuple(clause for clause in broken_on_test.clauses if not clause.passed)
    failures = dict.fromkeys(outcome.variants, failed)
    return replace(broken_on_test, chosen=None, failures=failures)


def test_three_files_say_the_same(outcome, tmp_path):
    report = write_report(outcome, tmp_path)

    values = read_json(tmp_path / "report.json")
    jsonschema.validate(values, schema())
    assert from_json(values) == report
    for name in ("report.html", "report.md"):
        text = (tmp_path / name).read_text("utf-8")
        assert "kept" in text
        assert "ort-int8" in text


def test_a_kept_contract_needs_no_reasons(outcome):
    report = make_report(outcome)

    assert (report.verdict, report.chosen, report.reasons) == ("kept", "ort-int8", ())
    assert report.name == "ItalyPowerDemand"


def test_the_reasons_of_a_contract_that_broke_on_test_series(broken_on_test):
    report = make_report(broken_on_test)

    assert (report.verdict, report.chosen) == ("broken", "ort-int8")
    assert report.reasons[0] == "ort-int8 kept the contract on the validation split only."
    assert report.reasons[1].startswith("On the test split, kl is ")
    assert len(report.reasons) == 2


def test_the_reasons_of_a_contract_that_nothing_kept(broken):
    report = make_report(broken)

    assert (report.verdict, report.chosen) == ("broken", None)
    for name in ("ort-fp32", "ort-int8"):
        start = f"{name}: on the validation split, kl is "
        assert sum(reason.startswith(start) for reason in report.reasons) == 1


def test_the_teacher_is_not_said_to_agree_with_itself(outcome):
    report = make_report(outcome)

    assert report.teacher is not None
    assert report.teacher.metrics.accuracy is not None
    assert report.teacher.metrics.agreement is None
    assert report.teacher.metrics.saliency.pearson is None
    assert report.student is not None
    assert report.student.metrics.agreement is not None


def test_counts_add_up_to_the_test_split(outcome):
    report, count = make_report(outcome), len(outcome.data.test.y)

    assert report.data is not None
    assert report.data.test == count
    assert report.confusion is not None
    assert report.calibration is not None
    for matrix in (report.confusion.teacher, report.confusion.student):
        assert np.sum(matrix) == count
    assert report.student is not None
    for bins in (report.calibration.teacher, report.calibration.student):
        assert sum(one.count for one in bins) == count
    right = np.trace(report.confusion.student) / count
    chosen = report.judged_candidate()
    assert chosen is not None
    assert chosen.metrics.accuracy is not None
    assert right == pytest.approx(chosen.metrics.accuracy.value)


def test_examples_run_from_best_to_worst(outcome):
    report = make_report(outcome)

    best, median, worst = report.examples
    assert (best.title, worst.title) == ("best agreement", "worst agreement")
    assert best.pearson >= median.pearson >= worst.pearson
    for example in report.examples:
        np.testing.assert_allclose(example.series, outcome.data.test.x[example.index], rtol=1e-6)
        assert len(example.teacher_map) == len(example.student_map) == 24


def test_a_teacher_without_maps_gives_no_examples(outcome):
    silent = replace(outcome, teacher_outputs=replace(outcome.teacher_outputs, maps=False))

    assert make_report(silent).examples == ()


def test_a_name_of_ones_own(outcome):
    named = replace(outcome, recipe=outcome.recipe.model_copy(update={"name": "pump"}))

    assert make_report(named).name == "pump"
