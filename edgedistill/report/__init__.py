"""Reports: measured facts with their units, as JSON, as Markdown and as one HTML page."""

from __future__ import annotations

from edgedistill import public_name
from edgedistill.report.boards import merge
from edgedistill.report.encoding import from_json, schema, to_json
from edgedistill.report.facts import (
    FORMAT,
    Bin,
    Board,
    Calibration,
    Candidate,
    Confusion,
    Costs,
    Curves,
    Data,
    Epoch,
    Example,
    Int8Arithmetic,
    Latency,
    Metrics,
    Report,
    Saliency,
    SpeedComparison,
    Sums,
    Telemetry,
)

__all__ = [
    "FORMAT",
    "LIGHT",
    "NOT_MEASURED",
    "PAGE",
    "SPLITS",
    "Bin",
    "Board",
    "Calibration",
    "Candidate",
    "Confusion",
    "Costs",
    "Curves",
    "Data",
    "Epoch",
    "Example",
    "Int8Arithmetic",
    "Latency",
    "Metrics",
    "Palette",
    "Report",
    "Saliency",
    "SpeedComparison",
    "Sums",
    "Telemetry",
    "boards",
    "calibration_bins",
    "class_rows",
    "cost_rows",
    "data",
    "data_lines",
    "data_messages",
    "data_rows",
    "decimals",
    "figures",
    "format",
    "from_json",
    "html",
    "make_confusion",
    "make_curve",
    "make_examples",
    "make_metrics",
    "markdown",
    "merge",
    "milliseconds",
    "percent",
    "schema",
    "set_style",
    "svg",
    "telemetry_rows",
    "to_json",
]
_HOMES = {
    "data": ("SPLITS", "class_rows", "data_lines", "data_messages", "data_rows"),
    "format": ("NOT_MEASURED", "decimals", "milliseconds", "percent"),
    "measured": (
        "calibration_bins",
        "make_confusion",
        "make_curve",
        "make_examples",
        "make_metrics",
    ),
    "svg": ("LIGHT", "PAGE", "Palette", "set_style", "svg"),
    "telemetry": ("cost_rows", "telemetry_rows"),
}


def __getattr__(name: str) -> object:
    return public_name(__name__, _HOMES, name)
