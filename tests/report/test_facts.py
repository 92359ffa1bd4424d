"""Facts refuse contradictions."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edgedistill.errors import DataError, ShapeError
from edgedistill.evaluation.contract import ContractClause
from edgedistill.evaluation.metrics import Estimate
from edgedistill.report import Candidate, Confusion


def test_models_come_in_order(full_report, board_report):
    """Teacher, student, variants; absent ones are skipped."""
    assert [m.name for m in full_report.models()] == ["teacher", "student", "fp32", "fp16", "int8"]
    assert [m.name for m in board_report.models()] == ["int8"]


def test_judged_candidate_is_the_chosen_or_the_only_one(full_report, board_report):
    """None with several candidates and none chosen."""
    assert full_report.judged_candidate().name == "int8"
    assert board_report.judged_candidate().name == "int8"
    assert replace(full_report, chosen=None).judged_candidate() is None


def test_chosen_must_be_a_candidate(full_report):
    """A report cannot choose what it did not measure."""
    with pytest.raises(DataError, match=r"'int4' is not among the candidates \(fp32, fp16, int8\)"):
        replace(full_report, chosen="int4")


def test_candidates_need_distinct_names(full_report):
    """Two candidates of one name are refused."""
    twin = Candidate(name="fp32", runtime="torch", precision="fp32")

    with pytest.raises(DataError, match="Candidates share a name: fp32, fp16, int8, fp32"):
        replace(full_report, candidates=(*full_report.candidates, twin))


def test_verdict_kept_needs_every_clause(full_report):
    """It is refused while a clause failed."""
    failed = ContractClause("kl", "<=", 0.5, Estimate(0.9, 0.8, 1.0), False, True)

    with pytest.raises(DataError, match="verdict is 'kept', but kl failed"):
        replace(full_report, contract=(*full_report.contract, failed))


def test_class_names_match_classes(full_report):
    """Every class has a name."""
    with pytest.raises(ShapeError, match="Got 2 class names for 3 classes"):
        replace(full_report.data, classes=3)


@pytest.mark.parametrize("matrix", [[[1, 2]], [[1, 2], [3]], []], ids=str)
def test_confusion_is_square(matrix):
    """A row and a column for every label."""
    with pytest.raises(ShapeError, match="student's confusion matrix has rows of"):
        Confusion(labels=("a", "b"), teacher=[[1, 0], [0, 1]], student=matrix)


@pytest.mark.parametrize(
    "change", [{"teacher_map": [0.0]}, {"student_map": []}, {"series": []}], ids=str
)
def test_example_has_one_length(full_report, change):
    """Series and both maps have the same time steps."""
    with pytest.raises(ShapeError, match="both maps the same T values"):
        replace(full_report.examples[0], **change)
