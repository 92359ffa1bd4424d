"""What boards reported, joined to what the workstation measured: teacher, student, engine there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from edgedistill.errors import DataError
from edgedistill.report.encoding import from_json, to_json
from edgedistill.report.facts import Board, Report


def merge(
    workstation: Mapping[str, Any], boards: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    """Return a workstation's report with the reports of boards in it, as `to_json` gives it.

    Args:
        workstation: the report of a run, which may hold boards already.
        boards: what `validate` wrote on each board, by label; a label that is there is replaced.

    Raises:
        IntegrityError: a report is of another version of the format.
        DataError: a report is malformed, is not a board's, or is about another bundle or a model
            that the workstation's has not.
    """
    report = from_json(workstation)
    added = [Board(label=label, report=from_json(values)) for label, values in boards.items()]
    for board in added:
        _check(board, report)
    kept = [board for board in report.boards if board.label not in boards]
    return to_json(replace(report, boards=(*kept, *added)))


def _check(board: Board, report: Report) -> None:
    names = [model.name for model in report.candidates]
    if board.report.name != report.name or board.model.name not in names:
        raise DataError(
            f"The report of {board.label!r} is about {board.model.name!r} of "
            f"{board.report.name!r}; the workstation's is about "
            f"{', '.join(names) or 'no model'} of {report.name!r}. Give the report of the run "
            "whose bundle was deployed there."
        )
