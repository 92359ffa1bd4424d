"""One series, and why a model says what it says of it: asked, drawn, and in words.

`inputs` opens what a person names, `attribution` asks, `plot` and `page` show.
"""

from edgedistill.explain.attribution import METHODS, Attribution, ExplanationReport, Method, explain
from edgedistill.explain.inputs import (
    ExplainedModel,
    ExplanationInput,
    PlanOverrides,
    RecordedExplanation,
    open_input,
)

__all__ = [
    "METHODS",
    "Attribution",
    "ExplainedModel",
    "ExplanationInput",
    "ExplanationReport",
    "Method",
    "PlanOverrides",
    "RecordedExplanation",
    "explain",
    "open_input",
]
