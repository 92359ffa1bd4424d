"""The report as Markdown, for a pull request or a terminal."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from edgedistill.report import wording
from edgedistill.report.encoding import from_json
from edgedistill.report.facts import Report


def render(report: Mapping[str, Any]) -> str:
    """Return the verdict and the tables of a report, as `to_json` gives it.

    Raises:
        IntegrityError: another version of the format.
        DataError: the report is malformed.
    """
    facts = from_json(report)
    parts = [
        f"# {_text(facts.name)}: {facts.verdict}",
        _text(wording.headline(facts)),
        "\n".join(f"- {_text(reason)}" for reason in facts.reasons),
        _section("Contract", _contract(facts)),
        _section("Models", _models(facts)),
        _section("Environment", _environment(facts)),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _contract(report: Report) -> str:
    rows = []
    for clause in report.contract:
        value = wording.clause_number(clause)(clause.measured.value)
        bounds = wording.clause_interval(clause)
        rows.append(
            [
                wording.clause_label(clause),
                wording.threshold(clause),
                f"{value} ({bounds})" if bounds else value,
                wording.outcome(clause),
            ]
        )
    return _table(["Clause", "Threshold", "Measured (95 % interval)", "Outcome"], rows)


def _models(report: Report) -> str:
    models = report.models()
    rows = []
    for group in wording.measured_rows(models).values():
        for row in group:
            cells = [wording.cell(row, model) for model in models]
            label = f"{row.label}, {row.note}" if row.note else row.label
            rows.append([label, *(f"{v} ({b})" if b else v for v, b in cells)])
    heads = [f"{m.name}, chosen" if m.name == report.chosen else m.name for m in models]
    return "\n\n".join(filter(None, [_table(["", *heads], rows), wording.emulation(models)]))


def _environment(report: Report) -> str:
    return _table(["", "Value"], [[key, value] for key, value in report.environment.items()])


def _section(title: str, body: str) -> str:
    return f"## {title}\n\n{body}" if body else ""


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table with its numbers to the right; nothing without rows."""
    if not rows:
        return ""
    rule = ["---", *["---:"] * (len(heads) - 1)]
    lines = [[_text(head) for head in heads], rule, *([_text(c) for c in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _text(text: str) -> str:
    """Return text that Markdown takes as it is: one line, no markup."""
    return re.sub(r"([\\|<>*_`\[\]])", r"\\\1", " ".join(text.split()))
