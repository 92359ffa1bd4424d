"""The prediction of a model for one series and its saliency, as numbers, figure and page.

`inputs` opens models and series, `attribution` explains, `plot` draws.
"""

from edgedistill import public_name
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
    "captions",
    "explain",
    "open_input",
    "plot",
    "render",
]
_HOMES = {
    "plot": ("captions", "render"),
}


def __getattr__(name: str) -> object:
    return public_name(__name__, _HOMES, name)
