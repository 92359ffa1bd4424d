"""Boards in a report: joined to the workstation's, and in tables beside its models."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edgedistill.errors import DataError, IntegrityError
from edgedistill.report import from_json, merge, to_json
from edgedistill.report.boards import board_rows, chain, summary

pytestmark = pytest.mark.slow


def test_merge_adds_boards_and_keeps_the_rest(full_report, orin_report, hot_report, joined_report):
    """Reports of boards stay unchanged, in order; the rest is the workstation's."""
    assert [board.label for board in joined_report.boards] == ["orin", "pi-5"]
    assert [board.report for board in joined_report.boards] == [orin_report, hot_report]
    assert replace(joined_report, boards=()) == full_report


def test_merge_replaces_a_board_of_equal_label(joined_report, orin_report, hot_report):
    """A board measured again is there once; the others stay."""
    later = replace(orin_report, created="2026-12-01T00:00:00Z")

    again = from_json(merge(to_json(joined_report), {"orin": to_json(later)}))

    found = {board.label: board.report for board in again.boards}
    assert found == {"orin": later, "pi-5": hot_report}


def test_report_of_another_bundle_is_refused(full_report, orin_report):
    """Another name, or a model that the workstation's report lacks."""
    for stranger in (
        replace(orin_report, name="ECG200"),
        replace(
            orin_report,
            chosen="int4",
            candidates=(replace(orin_report.candidates[0], name="int4"),),
        ),
    ):
        with pytest.raises(DataError, match=r"'orin' is about .* deployed there"):
            merge(to_json(full_report), {"orin": to_json(stranger)})


def test_report_that_is_no_boards_is_refused(full_report, joined_report, orin_report):
    """A report with a teacher, with boards, or without a model."""
    empty = replace(orin_report, chosen=None, candidates=())
    nested = replace(joined_report, teacher=None)

    for other in (full_report, nested, empty):
        with pytest.raises(DataError, match=r"'orin' is not a board's: it holds \d models"):
            merge(to_json(full_report), {"orin": to_json(other)})


def test_labels_are_unique(joined_report):
    """Two boards of one label are refused."""
    twice = (joined_report.boards[0], joined_report.boards[0])

    with pytest.raises(DataError, match="Boards share a label: orin, orin"):
        replace(joined_report, boards=twice)


def test_other_version_is_refused(full_report, orin_report):
    """Of the workstation's report and of a board's."""
    new = {**to_json(orin_report), "format": "edgedistill.report/2"}

    with pytest.raises(IntegrityError, match="this version reads"):
        merge(to_json(full_report), {"orin": new})
    with pytest.raises(IntegrityError, match="this version reads"):
        merge(new, {})


def test_chain_from_teacher_to_engines(joined_report):
    """Teacher, student, the variant that was deployed, and its engine on each board."""
    columns = chain(joined_report)

    assert [(column.title, column.mark) for column in columns] == [
        ("teacher", ""),
        ("student", ""),
        ("int8", "chosen"),
        ("engine on orin", "kept"),
        ("engine on pi-5", "broken"),
    ]
    assert [column.raised for column in columns] == [False, False, False, True, True]
    assert columns[3].note == "int8: onnxruntime 1.23.2, int8"


def test_chain_has_the_measures_of_boards(joined_report):
    """A row without a value of any board is left out."""
    labels = {row.label for rows in board_rows(joined_report).values() for row in rows}

    assert {"Peak memory", "Cold start", "Throughput", "Agreement", "Pearson"} <= labels
    assert "AUC-PRC" not in labels


def test_summary_of_a_board(joined_report):
    """Verdict, latency, and whether the machine throttled."""
    kept, broken = joined_report.boards

    assert summary(kept).startswith("kept, ")
    assert summary(kept).endswith("p95 360 µs")
    assert summary(broken).startswith("broken, ")
    assert summary(broken).endswith("slowed down while it was measured")
