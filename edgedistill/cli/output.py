"""What people see: progress on stderr, tables on stdout."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rich.table import Table

    from edgedistill.contract import Clause
    from edgedistill.report import Candidate, Report
    from edgedistill.report.wording import Row
    from edgedistill.stages.progress import Progress


@contextmanager
def progress() -> Iterator[Progress]:
    """Yield what stages tell their progress to; a bar each, on stderr."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description:<16}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    tasks = {}
    with Progress(*columns, console=Console(stderr=True)) as bars:

        def tell(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(what, total=total)
            bars.update(tasks[what], completed=done, total=total)

        yield tell


def print_json(value: Any) -> None:
    """Print JSON for machines on stdout."""
    click.echo(json.dumps(value, indent=2, allow_nan=False))


def print_facts(title: str, facts: Iterable[tuple[str, str]]) -> None:
    """Print names and values as a table."""
    table = _table(title, ("", ""))
    table.show_header = False
    for name, value in facts:
        table.add_row(name, value)
    _print(table)


def print_rows(title: str, head: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print rows under a head as a table."""
    table = _table(title, head)
    for row in rows:
        table.add_row(*row)
    _print(table)


def print_report(report: Report) -> None:
    """Print what a report says: models side by side, clauses, verdict."""
    from edgedistill.report import wording

    models = report.models()
    for group, rows in wording.measured_rows(models).items():
        print_rows(
            group,
            ("", *(model.name for model in models)),
            [_model_row(row, models) for row in rows],
        )
    print_rows(
        "Contract",
        ("clause", "measured", "95 % interval", "threshold", "outcome"),
        [_clause_row(clause) for clause in report.contract],
    )
    for reason in report.reasons:
        click.echo(reason)
    chosen = f", chosen: {report.chosen}" if report.chosen else ""
    click.echo(f"\nverdict: {report.verdict}{chosen}")


def _model_row(row: Row, models: Sequence[Candidate]) -> list[str]:
    from edgedistill.report import wording

    cells = [" ".join(part for part in wording.cell(row, model) if part) for model in models]
    return [f"{row.label} {row.note}".strip(), *cells]


def _clause_row(clause: Clause) -> list[str]:
    from edgedistill.report import wording

    return [
        wording.clause_label(clause),
        wording.clause_number(clause)(clause.measured.value),
        wording.clause_interval(clause),
        wording.threshold(clause),
        wording.outcome(clause),
    ]


def _table(title: str, head: Sequence[str]) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    for index, name in enumerate(head):
        table.add_column(name, justify="left" if index == 0 else "right", overflow="fold")
    return table


def _print(table: Table) -> None:
    from rich.console import Console

    console = Console(markup=False, highlight=False)
    # A pipe has no width; a table cut at 80 columns would lose figures there.
    if not console.is_terminal:
        console.width = 200
    console.print(table)
