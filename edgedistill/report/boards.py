"""Boards in a report: joined to the workstation's, beside its models, and their state."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from edgedistill.errors import DataError
from edgedistill.report.encoding import from_json, to_json
from edgedistill.report.facts import Board, Candidate, Report, Telemetry
from edgedistill.report.format import Row, int8_note, measured_rows, milliseconds, percent
from edgedistill.report.telemetry import telemetry_rows, throttling

_IDENTITY_KEYS = (
    "board",
    "machine",
    "cpu",
    "cores",
    "jetson",
    "system",
    "python",
    "runtime",
    "session",
)


@dataclass(frozen=True, slots=True)
class Column:
    """A model in a table of models."""

    title: str
    note: str  # runtime and precision
    mark: str  # "chosen", the verdict of a board, or ""
    model: Candidate
    raised: bool  # emphasized in the table


def merge(
    workstation: Mapping[str, Any], boards: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    """Join the reports of boards to a workstation's report; return it as `to_json` does.

    Args:
        workstation: report of a run, which may hold boards already.
        boards: reports that `validate` wrote on the boards, by label; an equal label is replaced.

    Raises:
        IntegrityError: a report is of another version of the format.
        DataError: a report is malformed, is not a board's, or is about another bundle or a model
            that the workstation's report lacks.
    """
    report = from_json(workstation)
    added = [Board(label=label, report=from_json(values)) for label, values in boards.items()]
    for board in added:
        _check_belongs(board, report)
    others = [board for board in report.boards if board.label not in boards]
    return to_json(replace(report, boards=(*others, *added)))


def models(report: Report) -> list[Column]:
    """Columns of teacher, student and variants, as the workstation measured them."""
    return [
        Column(
            model.name,
            f"{model.runtime}, {model.precision}",
            "chosen" if model.name == report.chosen else "",
            model,
            model.name == report.chosen,
        )
        for model in report.models()
    ]


def chain(report: Report) -> list[Column]:
    """Columns of teacher, student, each deployed variant, and its engine on each board."""
    deployed = {board.model.name for board in report.boards}
    on_workstation = [
        replace(column, raised=False)
        for column in models(report)
        if column.model not in report.candidates or column.title in deployed
    ]
    return [*on_workstation, *(_engine(board) for board in report.boards)]


def board_rows(report: Report) -> dict[str, tuple[Row, ...]]:
    """Rows that at least one board has a value for, by group."""
    return measured_rows(tuple(board.model for board in report.boards))


def summary(board: Board) -> str:
    """Outcome of a board in one line."""
    parts: list[str] = [board.report.verdict]
    if board.model.metrics.agreement is not None:
        parts.append(f"{percent(board.model.metrics.agreement.value)} agreement")
    if board.model.latency_ms is not None:
        parts.append(f"p95 {milliseconds(board.model.latency_ms.p95)}")
    if was_throttled(board.report.telemetry):
        parts.append("slowed down while it was measured")
    return ", ".join(parts)


def was_throttled(telemetry: Telemetry | None) -> bool:
    """Whether a machine throttled, so that its latency is not the best that the model can do."""
    return telemetry is not None and bool(telemetry.throttling)


def identity(report: Report) -> list[tuple[str, str]]:
    """Facts that identify a board and its runtime, as names and texts."""
    facts = [
        (name, report.environment[name]) for name in _IDENTITY_KEYS if name in report.environment
    ]
    model = report.judged_candidate()
    return [*facts, ("INT8", int8_note(model.int8))] if model and model.int8 else facts


def board_telemetry(report: Report) -> list[tuple[str, str]]:
    """State of a board during the measurement, as names and texts."""
    if report.telemetry is None:
        return [("sensors", "none could be read")]
    return telemetry_rows(report.telemetry)


def warning(telemetry: Telemetry | None) -> str:
    """Warning about throttling in a sentence; empty without any."""
    if telemetry is None or not was_throttled(telemetry):
        return ""
    return f"The machine slowed down while it was measured. {throttling(telemetry)}"


def _check_belongs(board: Board, report: Report) -> None:
    names = [model.name for model in report.candidates]
    if board.report.name != report.name or board.model.name not in names:
        raise DataError(
            f"The report of {board.label!r} is about {board.model.name!r} of "
            f"{board.report.name!r}; the workstation's is about "
            f"{', '.join(names) or 'no model'} of {report.name!r}. Give the report of the run "
            "whose bundle was deployed there."
        )


def _engine(board: Board) -> Column:
    model = board.model
    runtime = board.report.environment.get("runtime", model.runtime)
    return Column(
        f"engine on {board.label}",
        f"{model.name}: {runtime}, {model.precision}",
        board.report.verdict,
        model,
        raised=True,
    )
