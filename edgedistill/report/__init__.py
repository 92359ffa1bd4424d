"""Reports: measured facts with their units, as JSON, as Markdown and as one HTML page."""

from __future__ import annotations

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
    Latency,
    Metrics,
    Report,
    Saliency,
    Telemetry,
)

__all__ = [
    "FORMAT",
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
    "Latency",
    "Metrics",
    "Report",
    "Saliency",
    "Telemetry",
    "from_json",
    "merge",
    "schema",
    "to_json",
]
