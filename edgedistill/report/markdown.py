"""The report as Markdown, for a pull request or a terminal."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from edgedistill.evaluation.contract import ContractClause
from edgedistill.report import boards, verdict
from edgedistill.report import format as fmt
from edgedistill.report.data import SPLITS, class_rows, data_messages, data_rows
from edgedistill.report.encoding import from_json
from edgedistill.report.facts import Report


def render(report: Mapping[str, Any]) -> str:
    """Render the verdict and the tables of a report, as of `to_json`.

    Raises:
        IntegrityError: another version of the format.
        DataError: the report is malformed.
    """
    facts = from_json(report)
    parts = [
        f"# {_text(facts.name)}: {verdict.verdict(facts)}",
        _text(fmt.headline(facts)),
        _text(verdict.undecided_note(facts)),
        _text(facts.choice or ""),
        "\n".join(f"- {_text(reason)}" for reason in verdict.open_reasons(facts)),
        "\n".join(f"- {_text(message)}" for message in _messages(facts)),
        _section("Contract", _contract(facts)),
        _section("What would help", _next_steps(facts)),
        _section("Models", _models(facts)),
        _section("Boards", _boards(facts)),
        _section("Data", _data(facts)),
        _section("Machine", _machine(facts) if facts.telemetry else ""),
        _section("Environment", _environment(facts)),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _contract(report: Report) -> str:
    parts = []
    for section in verdict.contract_sections(report):
        parts += [f"{_text(section.title)}:" if section.title else "", _clauses(section.clauses)]
    return "\n\n".join([*filter(None, parts), *_variants(report)])


def _variants(report: Report) -> list[str]:
    """Table of all variants on the validation series, where none was chosen of several."""
    if len(report.variants) < 2:
        return []
    rows = [
        [row.label, row.threshold, *map(_variant_cell, row.cells)]
        for row in verdict.variant_rows(report)
    ]
    heads = ["Clause", "Threshold", *(variant.candidate for variant in report.variants)]
    return ["All variants on the validation series:", _table(heads, rows)]


def _variant_cell(clause: ContractClause | None) -> str:
    if clause is None:
        return fmt.NOT_MEASURED
    return f"{fmt.clause_number(clause)(clause.measured.value)}, {fmt.outcome(clause)}"


def _clauses(clauses: Sequence[ContractClause]) -> str:
    rows = []
    for clause in clauses:
        value = fmt.clause_number(clause)(clause.measured.value)
        bounds = fmt.clause_interval(clause)
        rows.append(
            [
                fmt.clause_label(clause),
                fmt.threshold(clause),
                f"{value} ({bounds})" if bounds else value,
                fmt.outcome(clause),
            ]
        )
    return _table(["Clause", "Threshold", "Measured (95 % interval)", "Outcome"], rows)


def _next_steps(report: Report) -> str:
    steps = [
        f"- {_text(step.reason)}\n\n  ```sh\n  {verdict.command(step)}\n  ```"
        for step in report.next_steps
    ]
    return "\n".join([f"{verdict.RUN} is the folder of the run.\n", *steps]) if steps else ""


def _models(report: Report) -> str:
    table = _side_by_side(boards.models(report), fmt.measured_rows(report.models()))
    return "\n\n".join(filter(None, [table, *map(_text, fmt.notes(report))]))


def _boards(report: Report) -> str:
    if not report.boards:
        return ""
    parts = [_side_by_side(boards.chain(report), boards.board_rows(report))]
    for board in report.boards:
        reasons = [f"- {_text(reason)}" for reason in board.report.reasons]
        parts += [f"### {_text(board.label)}: {_text(boards.summary(board))}", "\n".join(reasons)]
        facts = [*boards.identity(board.report), *boards.board_telemetry(board.report)]
        parts.append(_table(["", "Value"], facts))
    return "\n\n".join(filter(None, parts))


def _messages(report: Report) -> list[str]:
    return [] if report.data is None else data_messages(report.data)


def _data(report: Report) -> str:
    if report.data is None:
        return ""
    classes = _table(["Class", *SPLITS.values()], class_rows(report.data))
    return "\n\n".join(filter(None, [_table(["", "Value"], data_rows(report.data)), classes]))


def _machine(report: Report) -> str:
    return _table(["", "Value"], boards.board_telemetry(report))


def _side_by_side(columns: Sequence[boards.Column], groups: Mapping[str, Sequence[fmt.Row]]) -> str:
    """Table with a column for each model and a row for each measure."""
    rows = []
    for group in groups.values():
        for row in group:
            cells = [fmt.cell(row, column.model) for column in columns]
            label = f"{row.label}, {row.note}" if row.note else row.label
            rows.append([label, *(f"{v} ({b})" if b else v for v, b in cells)])
    heads = [f"{c.title}, {c.mark}" if c.mark else c.title for c in columns]
    return _table(["", *heads], rows)


def _environment(report: Report) -> str:
    return _table(["", "Value"], [[key, value] for key, value in report.environment.items()])


def _section(title: str, body: str) -> str:
    return f"## {title}\n\n{body}" if body else ""


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Format a table with its numbers to the right; empty without rows."""
    if not rows:
        return ""
    rule = ["---", *["---:"] * (len(heads) - 1)]
    lines = [[_text(head) for head in heads], rule, *([_text(c) for c in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _text(text: str) -> str:
    """Escape text for Markdown: one line, no markup."""
    return re.sub(r"([\\|<>*_`\[\]])", r"\\\1", " ".join(text.split()))
