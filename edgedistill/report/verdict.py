"""The verdict in words: how certain it is, on which series it was decided, and what would help."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path

from edgedistill.evaluation.contract import ContractClause
from edgedistill.report import format as fmt
from edgedistill.report.facts import NextStep, Report

RUN = Path("RUN")  # stands for the folder of the run where that is not known


@dataclass(frozen=True, slots=True)
class ContractSection:
    """The clauses on one split."""

    title: str  # empty where there is one split alone
    clauses: tuple[ContractClause, ...]


def verdict(report: Report) -> str:
    """Verdict of a report, with "undecided" if more series could turn it."""
    return f"{report.verdict}, undecided" if report.undecided() else report.verdict


def contract_sections(report: Report) -> list[ContractSection]:
    """Clauses on the test series and on the validation series, first those that decided."""
    if not report.validation:
        return [ContractSection("", report.contract)]
    test, validation = ("test series", "validation series")
    if report.data is not None:
        test = f"{fmt.format_count(report.data.test)} {test}"
        validation = f"{fmt.format_count(report.data.validation)} {validation}"
    if report.chosen is None:
        return [
            ContractSection(f"On {validation}, which decided", report.validation),
            ContractSection(f"On {test}", report.contract),
        ]
    return [
        ContractSection(f"On {test}, which decided", report.contract),
        ContractSection(f"On {validation}, on which it was chosen", report.validation),
    ]


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
