"""Output about boards: a live table during a deployment, then outcomes, states and errors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from edgedistill.io.terminal import echo

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

    from edgedistill.deployment.status import BoardStatus
    from edgedistill.deployment.steps import Event, EventCallback, Outcome

_BAR_COLUMNS = 24
_PER_SECOND = 8
_MIB = 2**20


@contextmanager
def show_events(boards: Sequence[str]) -> Iterator[EventCallback]:
    """Yield a callback that shows the events of a deployment on stderr.

    A terminal gets a table with a row for each board, anything else a line for each step.
    """
    from rich.live import Live

    from edgedistill.cli.console import SafeConsole

    console = SafeConsole(stderr=True, markup=False, highlight=False)
    if not console.is_terminal:
        yield _print_line
        return
    latest: dict[str, Event | None] = dict.fromkeys(boards)
    with Live(console=console, refresh_per_second=_PER_SECOND, transient=True) as live:
        live.update(_live(latest))

        def show(event: Event) -> None:
            if event.state == "note":
                live.console.print(f"{event.host}: {event.text}")
            latest[event.host] = event
            live.update(_live(latest))

        yield show


def print_outcomes(outcomes: Sequence[Outcome]) -> None:
    """Print the outcome on each board, and broken contracts, on stdout; errors on stderr."""
    from edgedistill.cli.output import print_contract, print_rows
    from edgedistill.report import from_json

    print_rows(
        "Boards",
        ("board", "outcome", "contract there", "release", "runs now"),
        [
            (
                each.host,
                "done" if each.code == 0 else f"{each.step} failed, {each.code}",
                each.verdict or "",
                each.release or "",
                each.current or "",
            )
            for each in outcomes
        ],
        words=True,
    )
    for each in outcomes:
        if each.report is not None and each.verdict == "broken":
            print_contract(f"Contract on {each.host}", from_json(each.report))
    print_errors(outcomes)


def print_statuses(statuses: Sequence[BoardStatus]) -> None:
    """Print the state of each board: a table on stdout, errors on stderr."""
    from edgedistill.cli.output import print_rows

    head = ("board", "runs", "contract there", "signed by", "before that", "program", "free", "")
    print_rows("Boards", head, [_row(each) for each in statuses], words=True)
    print_errors(statuses)
    for each in statuses:
        if each.fallback is not None:
            when, why = each.fallback["time"], each.fallback["reason"]
            echo(f"{each.host} left {each.rolled_back} by itself, {when}: {why}.", err=True)


def print_errors(results: Sequence[Outcome] | Sequence[BoardStatus]) -> None:
    """Print the message of every board that failed, or had nothing to do."""
    for each in results:
        if each.message:
            echo(f"error: {each.message}" if each.code else each.message, err=True)


def _row(each: BoardStatus) -> tuple[str, ...]:
    notes = [
        *([_rolled_back(each)] if each.rolled_back else []),
        *(["a switch was interrupted"] if each.switching else []),
        *(["its signer is no longer trusted"] if each.current in each.untrusted else []),
        *(["trusts no signer yet"] if each.trusts is False else []),
        *([f"failed, {each.code}"] if each.code else []),
    ]
    return (
        each.host,
        each.current or "",
        each.verdict or "",
        each.signer or ("nobody" if each.current else ""),
        each.previous or "",
        each.program or "",
        "" if each.free_bytes is None else f"{each.free_bytes / _MIB:,.0f} MiB",
        ", ".join(notes),
    )


def _rolled_back(each: BoardStatus) -> str:
    if each.fallback is None:
        return f"rolled back from {each.rolled_back}"
    return f"left {each.rolled_back} by itself"


def _print_line(event: Event) -> None:
    if event.state in {"begun", "progress"}:
        return
    text = f": {event.text}" if event.text else ""
    echo(f"{event.host}  {event.step} {event.state}{text}", err=True)


def _live(latest: dict[str, Event | None]) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD)
    for name in ("board", "step", ""):
        table.add_column(name)
    for host, event in latest.items():
        table.add_row(host, event.step if event else "waits", _cell(event))
    return table


def _cell(event: Event | None) -> RenderableType:
    from rich.progress_bar import ProgressBar
    from rich.text import Text

    if event is None:
        return ""
    if event.state == "progress":
        return ProgressBar(total=event.total, completed=event.done, width=_BAR_COLUMNS)
    style = {"done": "green", "failed": "red"}.get(event.state, "")
    return Text("is under way" if event.state == "begun" else event.state, style)
