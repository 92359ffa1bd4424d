"""The verdict in words: how certain it is, on which series it was decided, and what would help."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from edgedistill.evaluation.contract import ContractClause
from edgedistill.report import format as fmt
from edgedistill.report.facts import NextStep, Report

RUN = Path("RUN")  # stands for the folder of the run where that is not known


@dataclass(frozen=True, slots=True)
class ContractSection:
    """The clauses on one split; of a broken contract those that decided come first."""

    title: str  # empty where there is one split alone
    clauses: tuple[ContractClause, ...]


@dataclass(frozen=True, slots=True)
class VariantRow:
    """A clause in the table of all variants."""

    label: str
    threshold: str
    cells: tuple[ContractClause | None, ...]  # one a variant; None: not judged here


def verdict(report: Report) -> str:
    """Verdict of a report, with "undecided" if more series could turn it."""
    return f"{report.verdict}, undecided" if report.undecided() else report.verdict


def contract_sections(report: Report) -> list[ContractSection]:
    """Clauses on the test series and on the validation series, first those that decided."""
    tested, validated = (
        _decisive_first(report, clauses) for clauses in (report.contract, report.validation)
    )
    if not validated:
        return [ContractSection("", tested)]
    test, validation = ("test series", "validation series")
    if report.data is not None:
        test = f"{fmt.format_count(report.data.test)} {test}"
        validation = f"{fmt.format_count(report.data.validation)} {validation}"
    if report.chosen is None:
        return [
            ContractSection(f"On {validation}, which decided", validated),
            ContractSection(f"On {test}", tested),
        ]
    return [
        ContractSection(f"On {test}, which decided", tested),
        ContractSection(f"On {validation}, on which it was chosen", validated),
    ]


def _decisive_first(
    report: Report, clauses: Iterable[ContractClause]
) -> tuple[ContractClause, ...]:
    if report.verdict != "broken":
        return tuple(clauses)
    return tuple(sorted(clauses, key=lambda clause: (clause.passed, not clause.decided)))


def variant_rows(report: Report) -> list[VariantRow]:
    """Rows of a table of all variants on the validation series, the nearest variant first.

    Clauses that the nearest breaks come first. Empty where a variant was chosen.
    """
    cells: dict[str, dict[str, ContractClause]] = {}
    for variant in report.variants:
        for clause in _decisive_first(report, variant.clauses):
            cells.setdefault(clause.name, {})[variant.candidate] = clause
    names = [variant.candidate for variant in report.variants]
    return [
        VariantRow(
            label=fmt.clause_label(next(iter(row.values()))),
            threshold=fmt.threshold(next(iter(row.values()))),
            cells=tuple(row.get(name) for name in names),
        )
        for row in cells.values()
    ]


def variant_reason(name: str, clause: ContractClause) -> str:
    """Sentence on a clause that a variant breaks on the validation series."""
    return f"{name}: on the validation split, {clause.message()}."


def open_reasons(report: Report) -> list[str]:
    """Reasons of a report but those that the table of all variants has."""
    shown = {variant_reason(v.candidate, clause) for v in report.variants for clause in v.clauses}
    return [reason for reason in report.reasons if reason not in shown]


def undecided_note(report: Report) -> str:
    """Sentence on the clauses that more series could turn; empty if the verdict is certain."""
    clauses = report.undecided()
    if not clauses:
        return ""
    labels = ", ".join(fmt.clause_label(clause) for clause in clauses)
    where = contract_sections(report)[0].title.partition(",")[0] or "On these series"
    return (
        f"Undecided: {labels}. {where} the threshold lies inside the 95 % interval: other series "
        "of the same kind could turn the verdict."
    )


def command(step: NextStep, run: Path = RUN) -> str:
    """Command that runs a recipe again with the settings of a step.

    >>> command(NextStep(reason="", settings=("optimize.search={}",)))
    "edgedistill compress RUN/recipe.yaml --out RUN --set 'optimize.search={}'"
    """
    words = ["edgedistill", "compress", str(run / "recipe.yaml"), "--out", str(run)]
    for setting in step.settings:
        words += ["--set", setting]
    return shlex.join(words)
