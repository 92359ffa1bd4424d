"""What a person sees of a call and its result: bars of progress, and tables in notebooks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from html import escape
from typing import TYPE_CHECKING

from edgedistill.io.progress import ProgressCallback, ignore_progress
from edgedistill.io.terminal import echo

if TYPE_CHECKING:
    from edgedistill.pipeline.stages.data import DataCallback
    from edgedistill.report import Data

Progress = bool | ProgressCallback  # True: bars on stderr; False: nothing


@contextmanager
def progress_bars() -> Iterator[ProgressCallback]:
    """Yield a progress callback that draws a bar for each stage on stderr."""
    from rich.console import Console  # noqa: TID251 - names of stages are ours
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description:<20}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    bars = Progress(*columns, console=Console(stderr=True))
    tasks = {}

    def report(stage: str, done: int, total: int) -> None:
        if stage not in tasks:
            bars.start()  # not before there is a bar, or an error would begin with an empty line
            tasks[stage] = bars.add_task(stage, total=total)
        bars.update(tasks[stage], completed=done, total=total)

    try:
        yield report
    finally:
        if tasks:
            bars.stop()


@contextmanager
def callbacks(progress: Progress) -> Iterator[tuple[ProgressCallback, DataCallback]]:
    """Yield the callbacks of a call: of its progress, and of the data that were read."""
    if progress is True:
        with progress_bars() as bars:
            yield bars, _print_data
    else:
        yield progress or ignore_progress, _ignore_data


def html_table(title: str, rows: Iterable[Sequence[str]]) -> str:
    """Return rows of texts as an HTML table, escaped.

    >>> html_table("<x>", [("a", "1 < 2")])
    '<table><caption>&lt;x&gt;</caption><tr><td>a</td><td>1 &lt; 2</td></tr></table>'
    """
    cells = ("".join(f"<td>{escape(cell)}</td>" for cell in row) for row in rows)
    body = "".join(f"<tr>{row}</tr>" for row in cells)
    return f"<table><caption>{escape(title)}</caption>{body}</table>"


def _print_data(data: Data) -> None:
    from edgedistill.report.data import data_lines

    for line in data_lines(data):
        echo(line, err=True)


def _ignore_data(data: Data) -> None:
    """Report nothing."""
