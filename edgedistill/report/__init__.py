"""The report: measured facts with their units, as JSON, as Markdown and as one HTML page."""

from __future__ import annotations

from edgedistill.report.encoding import from_json, schema, to_json
from edgedistill.report.facts import (
    FORMAT,
    Bin,
    Calibration,
    Candidate,
    Confusion,
    Curves,
    Data,
    Epoch,
    Example,
    Latency,
    Metrics,
    Report,
    Saliency,
)

__all__ = [
    "FORMAT",
    "Bin",
    "Calibration",
    "Candidate",
    "Confusion",
    "Curves",
    "Data",
    "Epoch",
    "Example",
    "Latency",
    "Metrics",
    "Report",
    "Saliency",
    "from_json",
    "schema",
    "to_json",
]
