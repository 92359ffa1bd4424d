"""Tables of an experiment's report, as formatted text."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from edgedistill.evaluation.metrics import Estimate
from edgedistill.experiment.results import Row
from edgedistill.experiment.statistics import Comparison, estimates, references
from edgedistill.report import format as fmt
from edgedistill.report.format import NOT_MEASURED, decimals, percent

LABELS = {
    "accuracy": "Accuracy",
    "auc_prc": "AUC-PRC",
    "roc_auc": "ROC-AUC",
    "agreement": "Agreement with the teacher",
    "kl": "KL from the teacher, nats",
    "ece": "Calibration error",
    "saliency_pearson": "Saliency Pearson",
    "saliency_pearson_median": "Saliency Pearson, median",
    "saliency_pearson_p10": "Saliency Pearson, 10th percentile",
    "saliency_spearman": "Saliency Spearman",
    "saliency_top_sign": "Strongest tenth, shared with its sign",
    "unseen_pearson": "Saliency Pearson, unseen plan",
    "unseen_pearson_median": "Saliency Pearson, unseen plan, median",
    "unseen_pearson_p10": "Saliency Pearson, unseen plan, 10th percentile",
    "unseen_spearman": "Saliency Spearman, unseen plan",
    "unseen_top_sign": "Strongest tenth, unseen plan",
    "validation_accuracy": "Accuracy on validation series",
    "validation_kl": "KL from the teacher on validation series, nats",
    "validation_pearson": "Saliency Pearson on validation series",
}
_ALWAYS = ("accuracy", "saliency_pearson", "unseen_pearson")  # measures with a table of their own
_REFERENCES = {  # reference columns of a set for a measure
    "accuracy": {"teacher": "teacher_accuracy"},
    "auc_prc": {"teacher": "teacher_auc_prc"},
    "saliency_pearson": {"ceiling": "ceiling_pearson", "floor": "floor_pearson"},
}


Published = Mapping[str, Mapping[str, float]]  # accuracy by column and set


@dataclass(frozen=True, slots=True)
class Table:
    """Text in rows and columns; the first column names the row."""

    title: str
    note: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def tables(comparison: Comparison, rows: Sequence[Row], published: Published) -> tuple[Table, ...]:
    """Build the tables of methods over all sets, of every set, and of every two methods.

    Args:
        comparison: comparison by one measure.
        rows: rows of the experiment.
        published: published accuracies to print beside ours.
    """
    candidates = dict.fromkeys((comparison.metric, *_ALWAYS))
    measures = [measure for measure in candidates if estimates(rows, measure)]
    return (
        _overview(comparison, rows, measures),
        *(
            _per_set(rows, measure, comparison.methods, published if measure == "accuracy" else {})
            for measure in measures
        ),
        *([_pairs(comparison)] if comparison.pairs else []),
    )


def _overview(comparison: Comparison, rows: Sequence[Row], measures: Sequence[str]) -> Table:
    """Table with a row for each method: its mean rank, and means over the ranked sets."""
    means = {measure: estimates(rows, measure) for measure in measures}
    lines = []
    for index in np.argsort(comparison.ranks, kind="stable"):
        method = comparison.methods[index]
        cells = [f"{comparison.ranks[index]:.2f}"]
        for measure in measures:
            values = [means[measure].get((name, method)) for name in comparison.sets]
            measured = [value.value for value in values if value is not None]
            complete = len(measured) == len(values)
            mean = _writer(measure)(float(np.mean(measured))) if complete else NOT_MEASURED
            cells.append(mean)
        lines.append((method, *cells))
    return Table(
        title="Methods",
        note=f"Ranks by {LABELS[comparison.metric]}, 1 is best; "
        f"means over {len(comparison.sets)} sets.",
        head=("Method", "Mean rank", *(LABELS[measure] for measure in measures)),
        rows=tuple(lines),
    )


def _per_set(
    rows: Sequence[Row], measure: str, methods: Sequence[str], published: Published
) -> Table:
    """Table with a row for each set: the score of every method, then references."""
    means, write = estimates(rows, measure), _writer(measure)
    own_references = {
        name: values
        for name, column in _REFERENCES.get(measure, {}).items()
        if (values := references(rows, column))
    }
    lines = []
    for name in dict.fromkeys(row.set for row in rows):
        cells = [_cell(means.get((name, method)), write) for method in methods]
        others = [*own_references.values(), *published.values()]
        extra = [write(v[name]) if name in v else NOT_MEASURED for v in others]
        lines.append((name, *cells, *extra))
    return Table(
        title=LABELS[measure],
        note="Mean over student seeds, with the 95 % t-interval.",
        head=("Set", *methods, *(name.capitalize() for name in own_references), *published),
        rows=tuple(lines),
    )


def _cell(estimate: Estimate | None, write: Callable[[float], str]) -> str:
    if estimate is None:
        return NOT_MEASURED
    if estimate.low == estimate.high:
        return write(estimate.value)
    return f"{write(estimate.value)} ({fmt.interval(estimate, write)})"


def _pairs(comparison: Comparison) -> Table:
    return Table(
        title="Pairs",
        note=f"{LABELS[comparison.metric]}: sets won and lost by the first, and the p of a "
        "two-sided Wilcoxon signed-rank test over sets, as it is and adjusted by Holm.",
        head=("Pair", "Won", "Lost", "p", "p, Holm"),
        rows=tuple(
            (
                f"{pair.first} against {pair.second}",
                str(pair.wins),
                str(pair.losses),
                f"{pair.p:.2g}",
                f"{pair.adjusted_p:.2g}",
            )
            for pair in comparison.pairs
        ),
    )


def _writer(measure: str) -> Callable[[float], str]:
    return percent if measure in {"accuracy", "agreement"} else decimals
