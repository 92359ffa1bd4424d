"""Facts of the data as rows of a table, and as the lines that a run starts with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from edgedistill.report.facts import Data
from edgedistill.report.format import format_count, percent

SPLITS = {"train": "training", "validation": "validation", "test": "test"}
_ORIGINS = {
    "named": "{file}, named as the test data",
    "found": "{file}, the data set's own",
    "drawn": "split off the training data here, class by class",
}
_SHAPED = 4  # rows about the arrays; the others are about the files
_LEAST = 0.001  # share that is written as a number
_LISTED = 12  # classes or columns in a line


def data_rows(data: Data) -> list[tuple[str, str]]:
    """Names and values of the facts; those that a report of an earlier version lacks are left out.

    The series of each class are in `class_rows`.
    """
    steps = format_count(data.length)
    channels = "channel" if data.channels == 1 else "channels"
    rows = [
        ("Data", data.name),
        ("Series", _sizes(data)),
        ("Shape", f"{data.channels} {channels}, {steps} time steps"),
        ("Classes", f"{data.classes}: {', '.join(data.class_names)}"),
        ("Columns", _columns(data)),
        ("Test series", _test_origin(data)),
        ("Recorded lengths", _lengths(data)),
        ("Missing values", _missing(data)),
        ("Flat once normalized", _flat(data)),
        ("Lost in float32", _count(data.unresolved_series)),
    ]
    return [(name, text) for name, text in rows if text]


def class_rows(data: Data) -> list[list[str]]:
    """Rows of class and series in each split; none in a report of an earlier version."""
    counts = data.series_per_class or {}
    return [[name, *(format_count(row[split]) for split in SPLITS)] for name, row in counts.items()]


def data_lines(data: Data) -> list[str]:
    """Lines that a run starts with: what was read, then remarks and warnings."""
    facts = dict(data_rows(data))
    columns = [f"columns: {facts.pop('Columns')}"] if "Columns" in facts else []
    origin = [f"test series: {facts.pop('Test series')}"] if "Test series" in facts else []
    recorded = [f"{name.lower()}: {facts[name]}" for name in list(facts)[_SHAPED:]]
    return [
        f"data: {data.name}; {facts['Series']}; {facts['Shape']}",
        f"classes: {_classes(data.series_per_class or {})} ({'/'.join(SPLITS.values())})",
        *origin,
        *columns,
        "; ".join(recorded),
        *data_messages(data),
    ]


def data_messages(data: Data) -> list[str]:
    """Remarks and warnings, a line each."""
    notes = [f"note: {remark}" for remark in data.remarks]
    return [*notes, *(f"warning: {warning}" for warning in data.warnings)]


def _test_origin(data: Data) -> str:
    """Where the test series come from; empty in a report of an earlier version."""
    return _ORIGINS[data.test_origin].format(file=data.test_file) if data.test_origin else ""


def _columns(data: Data) -> str:
    """Columns of a table by role, with what told the role of all but the values."""
    roles: dict[str, list[str]] = {}
    for column in data.columns:
        why = "" if column.role == "values" else f" ({column.why})"
        roles.setdefault(column.role, []).append(f"{column.name}{why}")
    return "; ".join(f"{role}: {_cut(names)}" for role, names in roles.items())


def _classes(counts: Mapping[str, Mapping[str, int]]) -> str:
    texts = [f"{name} {'/'.join(str(row[s]) for s in SPLITS)}" for name, row in counts.items()]
    return _cut(texts)


def _cut(texts: Sequence[str]) -> str:
    more = f", and {len(texts) - _LISTED} more" if len(texts) > _LISTED else ""
    return ", ".join(texts[:_LISTED]) + more


def _sizes(data: Data) -> str:
    sizes = {"train": data.train, "validation": data.validation, "test": data.test}
    return ", ".join(f"{format_count(n)} {SPLITS[split]}" for split, n in sizes.items())


def _lengths(data: Data) -> str:
    if data.shortest is None or data.longest is None:
        return ""
    if data.shortest == data.longest:
        return f"{format_count(data.longest)} time steps"
    return f"{format_count(data.shortest)} to {format_count(data.longest)} time steps"


def _missing(data: Data) -> str:
    if data.missing_share is None or data.missing_series is None:
        return ""
    if not data.missing_series:
        return "none"
    share = percent(data.missing_share) if data.missing_share >= _LEAST else "under 0.1 %"
    return f"{share} of all values, in {_count(sum(data.missing_series.values()))}"


def _flat(data: Data) -> str:
    if not data.flat_channels:
        return _count(data.flat_series)
    channels = ", ".join(map(str, data.flat_channels))
    return f"{_count(data.flat_series)}; in all of training channel {channels}, counting from 0"


def _count(series: int | None) -> str:
    """Format a number of series; empty for what an earlier version did not count."""
    if series is None:
        return ""
    return f"{format_count(series)} series" if series else "none"
