"""An account as one HTML page that opens anywhere, offline, in the look of the report."""

from __future__ import annotations

from edgedistill.explain import plot as drawing
from edgedistill.explain.attribution import ExplanationReport
from edgedistill.report import format as wording
from edgedistill.report import html

_TEMPLATE = "page.html.j2"


def render(report: ExplanationReport, windows: int) -> str:
    """Return the page of an account with each model's strongest windows; equal for equal ones."""
    sentences = drawing.captions(report)
    (figure,) = html.non_empty((drawing.svg(report), "Series and scores", " ".join(sentences[1:])))
    return html.template(_TEMPLATE, "edgedistill.explain").render(
        report=report,
        input=report.input,
        lead=sentences[0],
        figure=figure,
        windows=windows,
        wording=wording,
    )
