"""The prediction of a model for one series and its saliency, as numbers, figure and page.

`inputs` opens models and series, `attribution` explains, `plot` draws.
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
