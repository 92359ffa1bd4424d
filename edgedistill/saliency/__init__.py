"""Perturbation saliency: what it is, for any classifier. NumPy only."""

from edgedistill import public_name

__all__ = [
    "BATCH_COPIES",
    "MEMORY_BYTES",
    "Baseline",
    "BatchSizer",
    "Classifier",
    "Explanation",
    "LogitsFn",
    "PerturbationPlan",
    "WindowBatch",
    "batched_logits",
    "cut",
    "default_plan",
    "draw_donors",
    "draw_starts",
    "explain",
    "explain_classifier",
    "fill",
    "occlusion",
    "perturbation",
    "session_logits",
    "start_count",
    "time_map",
    "unseen_plan",
]
_HOMES = {
    "batching": ("BatchSizer", "MEMORY_BYTES", "WindowBatch", "batched_logits", "session_logits"),
    "classifier": ("Classifier", "LogitsFn"),
    "occlusion": ("BATCH_COPIES", "Explanation", "explain", "explain_classifier", "time_map"),
    "perturbation": (
        "Baseline",
        "PerturbationPlan",
        "cut",
        "default_plan",
        "draw_donors",
        "draw_starts",
        "fill",
        "start_count",
        "unseen_plan",
    ),
}


def __getattr__(name: str) -> object:
    return public_name(__name__, _HOMES, name)
