"""Metrics of a classifier and its explanations, and the contract that judges them. NumPy only."""

from edgedistill import public_name

__all__ = [
    "TOP_FRACTION",
    "Contract",
    "ContractClause",
    "Estimate",
    "Evaluation",
    "Preference",
    "Verdict",
    "contract",
    "evaluate",
    "evaluate_explanation",
    "explain_teacher_class",
    "judge",
    "map_agreement",
    "metrics",
    "preference",
    "verdict",
]
_HOMES = {
    "contract": ("Contract", "ContractClause", "Verdict", "judge", "verdict"),
    "evaluate": (
        "Evaluation",
        "evaluate",
        "evaluate_explanation",
        "explain_teacher_class",
        "map_agreement",
    ),
    "metrics": ("Estimate", "TOP_FRACTION"),
    "preference": ("Preference",),
}


def __getattr__(name: str) -> object:
    return public_name(__name__, _HOMES, name)
