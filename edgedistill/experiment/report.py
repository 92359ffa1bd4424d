"""Report of an experiment: tables and figures of its results, as a page and as Markdown."""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgedistill.experiment import plot as drawing
from edgedistill.experiment import results
from edgedistill.experiment.plot import Points, Scatter
from edgedistill.experiment.results import RESULTS, Row
from edgedistill.experiment.statistics import ALPHA, Comparison, compare, estimates, references
from edgedistill.experiment.tables import LABELS, Published, Table, tables
from edgedistill.io.files import whole_file, write_text
from edgedistill.report import html

PAGE, MARKDOWN = "report.html", "report.md"
DIAGRAM, SCATTER = "critical-difference.png", "accuracy-reasons.png"
_TEMPLATE = "page.html.j2"


@dataclass(frozen=True, slots=True)
class ReportData:
    """Contents of the report."""

    comparison: Comparison
    sentences: tuple[str, ...]
    tables: tuple[Table, ...]
    failed_runs: tuple[Row, ...]
    scatter: Scatter | None

    def to_json(self) -> dict[str, Any]:
        """Return the comparison as JSON values."""
        comparison = self.comparison
        return {
            "metric": comparison.metric,
            "sets": list(comparison.sets),
            "left_out": list(comparison.left_out),
            "mean_ranks": dict(zip(comparison.methods, comparison.ranks.tolist(), strict=True)),
            "means": dict(
                zip(comparison.methods, comparison.scores.mean(axis=0).tolist(), strict=True)
            ),
            "friedman_p": comparison.friedman_p,
            "pairs": [asdict(pair) for pair in comparison.pairs],
            "notes": list(comparison.notes),
            "failed": [
                {"set": r.set, "method": r.method, "seed": r.seed, "error": r.error}
                for r in self.failed_runs
            ],
        }


def write_report(
    folder: Path, metric: str = "accuracy", published: Published | None = None
) -> ReportData:
    """Write report.html, report.md and PNGs beside the table of an experiment.

    Args:
        folder: folder of the experiment.
        metric: column that methods are ranked by.
        published: published accuracies to print beside ours.

    Raises:
        DataError: there is no table, or nothing in it to compare.
    """
    data = report_data(results.read(folder / RESULTS), metric, published)
    pictures = {
        DIAGRAM: drawing.critical_difference(data.comparison),
        SCATTER: None if data.scatter is None else drawing.scatter_png(data.scatter),
    }
    page = render_html(data, pictures[DIAGRAM])
    for name, picture in pictures.items():
        if picture is None:
            (folder / name).unlink(missing_ok=True)  # of an earlier report
            continue
        with whole_file(folder / name) as partial:
            partial.write_bytes(picture)
    write_text(folder / PAGE, page)
    write_text(folder / MARKDOWN, render_markdown(data))
    return data


def report_data(rows: Sequence[Row], metric: str, published: Published | None = None) -> ReportData:
    """Collect the contents of the report from the rows of an experiment."""
    comparison = compare(rows, metric)
    return ReportData(
        comparison=comparison,
        sentences=_sentences(comparison, rows),
        tables=tables(comparison, rows, published or {}),
        failed_runs=tuple(row for row in rows if row.error is not None),
        scatter=_scatter(rows, comparison.methods),
    )


def render_html(data: ReportData, diagram: bytes | None) -> str:
    """Render the page, which needs no other files and no network."""
    figures = html.non_empty(
        (
            _image(diagram, "Mean ranks of the methods"),
            "Critical differences",
            "Mean rank over sets, the best to the right. A bar joins methods that cannot be told "
            f"apart: first Friedman's test, then one-sided Wilcoxon tests at {ALPHA} divided by "
            "the number of methods less one.",
        ),
        (
            "" if data.scatter is None else drawing.scatter_svg(data.scatter),
            "Accuracy against reasons",
            "A small mark is a set, a large one the mean of a method. Dashed: a second teacher "
            "from another seed (ceiling) and an untrained student (floor), means over sets.",
        ),
    )
    return html.template(_TEMPLATE, "edgedistill.experiment").render(
        data=data, figures=figures, label=LABELS[data.comparison.metric]
    )


def render_markdown(data: ReportData) -> str:
    """Render sentences and tables as Markdown."""
    parts = [f"# Experiment: {LABELS[data.comparison.metric]}", " ".join(data.sentences)]
    parts += [
        f"## {table.title}\n\n{table.note}\n\n{_markdown(table.head, table.rows)}"
        for table in data.tables
    ]
    if data.failed_runs:
        head = ("Set", "Method", "Seed", "What went wrong")
        rows = [(r.set, r.method, str(r.seed), r.error or "") for r in data.failed_runs]
        parts.append(f"## Failed runs\n\n{_markdown(head, rows)}")
    return "\n\n".join(parts) + "\n"


def _sentences(data: Comparison, rows: Sequence[Row]) -> tuple[str, ...]:
    """Sentences about the comparison and its significance."""
    best = data.methods[int(np.argmin(data.ranks))]
    seeds = len({row.seed for row in rows})
    failed = sum(row.error is not None for row in rows)
    sentences = [
        f"{len(data.methods)} methods on {len(data.sets)} sets, {seeds} student seeds each. "
        f"{best} has the best mean rank, {min(data.ranks):.2f}."
    ]
    if data.friedman_p is not None:
        sentences.append(f"Friedman's test: p = {data.friedman_p:.2g}.")
    sentences += data.notes
    if data.left_out:
        sentences.append(f"Not ranked, for want of a method's score: {', '.join(data.left_out)}.")
    if failed:
        sentences.append(f"{failed} of {len(rows)} runs failed.")
    return tuple(sentences)


def _scatter(rows: Sequence[Row], methods: Sequence[str]) -> Scatter | None:
    """Points of every method; None if the teachers have no maps."""
    accuracy, pearson = estimates(rows, "accuracy"), estimates(rows, "saliency_pearson")
    teacher = references(rows, "teacher_accuracy")
    points = []
    for method in methods:
        keys = [key for key in pearson if key[1] == method and key[0] in teacher]
        if keys:
            differences = tuple(accuracy[key].value - teacher[key[0]] for key in keys)
            points.append(Points(method, differences, tuple(pearson[key].value for key in keys)))
    if not points:
        return None
    lines = [references(rows, column) for column in ("ceiling_pearson", "floor_pearson")]
    levels = [float(np.mean(list(line.values()))) if line else None for line in lines]
    return Scatter(tuple(points), *levels)


def _image(picture: bytes | None, words: str) -> str:
    if picture is None:
        return ""
    data = base64.b64encode(picture).decode("ascii")
    return f'<img alt="{words}" src="data:image/png;base64,{data}">'


def _markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Format a table with its numbers to the right."""
    lines = [
        [_plain(text) for text in head],
        ["---", *["---:"] * (len(head) - 1)],
        *([_plain(text) for text in row] for row in rows),
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _plain(text: str) -> str:
    """Escape text for Markdown: one line, no markup."""
    return re.sub(r"([\\|<>*_`\[\]])", r"\\\1", " ".join(text.split()))
