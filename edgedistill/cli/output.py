"""Output for people, progress on stderr and tables on stdout, and JSON for machines."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgedistill.api.display import progress_bars
from edgedistill.io.terminal import echo, printable_lines

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from edgedistill.evaluation.contract import ContractClause
    from edgedistill.report import Candidate, Data, Report

progress = progress_bars
_WRAPPABLE = 24  # columns by which labels of a table may be wrapped
_COLORS = {"kept": "green", "broken": "red", "undecided": "yellow"}
_DECISIVE = ("File size", "Latency p50", "Accuracy", "Agreement", "KL", "Pearson")


def print_data(data: Data) -> None:
    """Print on stderr what was read: a few lines, then remarks and warnings."""
    from edgedistill.report.data import data_lines

    for line in data_lines(data):
        echo(line, err=True)


def print_json(value: Any) -> None:
    """Print JSON for machines on stdout."""
    echo(json.dumps(value, indent=2, allow_nan=False))


def print_facts(title: str, facts: Iterable[tuple[str, str]]) -> None:
    """Print names and values as a table."""
    table = _table(("", ""))
    table.show_header = False
    table.columns[1].justify = "left"
    for name, value in facts:
        table.add_row(printable_lines(name), printable_lines(value))
    _print(title, table)


def to_text(value: Any) -> str:
    """Format a value for a table; None and empty values are left out of mappings.

    >>> to_text({"spec": {"width": 4, "depth": None}, "accuracy": 0.98765}), to_text([1, 2])
    ('spec width 4, accuracy 0.9877', '1, 2')
    """
    if isinstance(value, dict):
        texts = {key: to_text(item) for key, item in value.items() if item is not None}
        return ", ".join(f"{key} {text}" for key, text in texts.items() if text)
    if isinstance(value, list):
        return ", ".join(to_text(item) for item in value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def print_rows(
    title: str, head: Sequence[str], rows: Iterable[Sequence[str]], *, words: bool = False
) -> None:
    """Print rows under a head as a table; `words` are aligned left, figures right."""
    table = _table(head)
    for column in table.columns if words else ():
        column.justify = "left"
    for row in rows:
        table.add_row(*map(printable_lines, row))
    _print(title, table)


def print_search(report: dict[str, Any]) -> None:
    """Print the summary of a precision search: sensitive nodes, the front, the outcome."""
    print_rows(
        "What each node gives back in float32",
        ("node", "agreement", "KL", "Pearson"),
        [
            (each["node"], *(_change(each[n]) for n in ("agreement", "kl", "saliency_pearson")))
            for each in report["sensitivity"]
        ],
    )
    print_rows(
        "Front of size, latency and saliency agreement",
        ("float32 nodes", "ranges", "bytes", "median ms", "agreement", "Pearson", "contract"),
        [_front_row(each) for each in report["front"]],
    )
    done = "" if report["complete"] else ", cut short by its budget"
    kept = "keeps" if report["kept"] else "breaks"
    echo(f"search{done}: {_nodes(report['chosen'])} in float32 {kept} the contract")


def _front_row(candidate: dict[str, Any]) -> list[str]:
    values = {name: value for name, (value, _, _) in candidate["estimates"].items()}
    pearson = values.get("saliency_pearson")
    return [
        _nodes(candidate),
        candidate["method"] or "",
        f"{values['size_bytes']:,.0f}",
        f"{values['latency_p50_ms']:.4g}",
        f"{values['agreement']:.4f}",
        "" if pearson is None else f"{pearson:.4f}",
        "kept" if candidate["kept"] else f"breaks {', '.join(candidate['broken'])}",
    ]


def _nodes(candidate: dict[str, Any]) -> str:
    if candidate["method"] is None:
        return "all"
    return ", ".join(candidate["keep"]) or "none"


def _change(value: float | None) -> str:
    return "" if value is None else f"{value:+.4f}"


def print_report(report: Report, run: Path | None = None) -> None:
    """Print a report: models side by side, clauses, boards, verdict, and what would help.

    Args:
        report: the report.
        run: folder of the run, for the commands; None: not known.
    """
    from edgedistill.report import boards, verdict
    from edgedistill.report import format as fmt

    _print_models(report.models())
    for note in fmt.notes(report):
        _console().print(f"{note}\n")
    print_contract("Contract", report)
    _print_variants(report)
    for sentence in filter(None, (report.choice, *verdict.open_reasons(report))):
        _print_sentence(sentence)
    if report.boards:
        outcomes = [(board.label, boards.summary(board)) for board in report.boards]
        print_facts("Boards", outcomes)
    if note := verdict.undecided_note(report):
        _print_sentence(note, _COLORS["undecided"])
    for step in report.next_steps:
        echo()
        _print_sentence(step.reason)
        echo(f"  {verdict.command(step, run or verdict.RUN)}")
    words = verdict.verdict(report)
    chosen = f", chosen: {report.chosen}" if report.chosen else ""
    _console().print(f"\n{fmt.headline(report)}")
    shown = click.style(words, fg=_COLORS[words.rpartition(", ")[2]], bold=True)
    click.echo(f"verdict: {shown}{printable_lines(chosen)}")


def _print_sentence(sentence: str, style: str = "") -> None:
    """Print a sentence, broken between words where the window ends."""
    from rich.text import Text

    console = _console()
    console.print(Text(sentence, style), soft_wrap=not console.is_terminal)


def print_contract(title: str, report: Report) -> None:
    """Print the clauses of a report with measured values, thresholds and outcomes, by split."""
    from rich.text import Text

    from edgedistill.report import verdict

    table = _table(("clause", "measured", "95 % interval", "threshold", "outcome"))
    for section in verdict.contract_sections(report):
        if section.title:
            table.add_section()
            table.add_row(Text(section.title, "bold"))
        for clause in section.clauses:
            *figures, outcome = _clause_row(clause)
            table.add_row(*figures, Text(outcome, _COLORS[outcome.rpartition(", ")[2]]))
    _print(title, table)


def _print_variants(report: Report) -> None:
    """Print the clauses of all variants on the validation series, where none was chosen."""
    from rich.text import Text

    from edgedistill.report import format as fmt
    from edgedistill.report import verdict

    if len(report.variants) < 2:
        return
    table = _table(("clause", "threshold", *(variant.candidate for variant in report.variants)))
    for row in verdict.variant_rows(report):
        cells = [
            Text(fmt.NOT_MEASURED)
            if clause is None
            else Text(
                f"{fmt.clause_number(clause)(clause.measured.value)} {fmt.outcome(clause)}",
                _COLORS[fmt.outcome(clause).rpartition(", ")[2]],
            )
            for clause in row.cells
        ]
        table.add_row(row.label, row.threshold, *cells)
    _print("All variants on the validation series", table)


def _print_models(models: Sequence[Candidate]) -> None:
    """Print models side by side, with their intervals where a line has room for them.

    Models that do not fit beside each other are listed below each other.
    """
    console = _console()
    for place in ("beside", "below", "nowhere"):
        table = _models_table(models, place)
        if _width(table, console) <= console.width:
            break
    if _width(table, console) - _WRAPPABLE <= console.width:
        _print("Models side by side", table)
    else:
        _print_list(models)
    if place == "nowhere":
        echo("A wider window, or the report, also shows the 95 % intervals.\n")


def _print_list(models: Sequence[Candidate]) -> None:
    """Print a line for each model, with the measures that decide between them."""
    from edgedistill.report import format as fmt

    groups = fmt.measured_rows(tuple(models)).values()
    rows = [row for rows in groups for row in rows if row.label in _DECISIVE]
    print_rows(
        "Models",
        ("model", *(row.label for row in rows)),
        [[model.name, *(fmt.cell(row, model)[0] for row in rows)] for model in models],
    )


def _models_table(models: Sequence[Candidate], place: str) -> Table:
    from rich.text import Text

    from edgedistill.report import format as fmt

    groups = fmt.measured_rows(tuple(models))
    cells = [fmt.cell(row, m) for rows in groups.values() for row in rows for m in models]
    widths = max(len(value) for value, _ in cells), max(len(interval) for _, interval in cells)
    table = _table(("", *(model.name for model in models)))
    for column in table.columns[1:]:
        column.no_wrap = True  # figures stay whole; labels are wrapped
    for group, rows in groups.items():
        table.add_section()
        table.add_row(Text(group, "bold"))
        for row in rows:
            apart = ("\n" if place == "below" else " ") if row.note else ""
            label = Text.assemble(row.label, apart, (row.note, "dim"))
            line = (fmt.cell(row, model) for model in models)
            table.add_row(label, *(_model_cell(*cell, widths, place) for cell in line))
    return table


def _model_cell(value: str, interval: str, widths: tuple[int, int], place: str) -> Text:
    from rich.text import Text

    if place == "beside":  # value under value, interval under interval
        return Text.assemble(
            value.rjust(widths[0]), "  ", (interval.rjust(widths[1]), "dim"), justify="left"
        )
    below = place == "below" and interval
    return Text.assemble(value, "\n", (interval, "dim")) if below else Text(value)


def _width(table: Table, console: Console) -> int:
    """Columns that a table takes if nothing in it is wrapped."""
    unbounded = console.options.update(max_width=1_000)
    return console.measure(table, options=unbounded).maximum


def _clause_row(clause: ContractClause) -> list[str]:
    from edgedistill.report import format as fmt

    return [
        fmt.clause_label(clause),
        fmt.clause_number(clause)(clause.measured.value),
        fmt.clause_interval(clause),
        fmt.threshold(clause),
        fmt.outcome(clause),
    ]


def _table(head: Sequence[str]) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD)
    for index, name in enumerate(head):
        table.add_column(name, justify="left" if index == 0 else "right", overflow="fold")
    return table


def _console() -> Console:
    """Console on stdout, wide enough in a pipe that no figure is cut."""
    from edgedistill.cli.console import SafeConsole

    console = SafeConsole(markup=False, highlight=False)
    if not console.is_terminal:
        console.width = 200
    return console


def _print(title: str, table: Table) -> None:
    click.secho(
        printable_lines(title), bold=True
    )  # not the table's own title, which breaks at the table's width
    _console().print(table)
