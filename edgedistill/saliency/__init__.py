"""Perturbation saliency of any classifier. NumPy only."""

from edgedistill import public_name

__all__ = [
    "BATCH_COPIES",
    "MEMORY_BYTES",
    "Baseline",
    "BatchSizer",
    "ChangesFn",
    "Classifier",
    "Explanation",
    "LogitsFn",
    "PerturbationPlan",
    "WindowBatch",
    "baseline_patches",
    "batched_logits",
    "default_plan",
    "donor_patches",
    "draw_donors",
    "draw_starts",
    "explain",
    "explain_classifier",
    "occlusion",
    "perturbation",
    "session_logits",
    "start_count",
    "time_map",
    "unseen_plan",
]
_HOMES = {
    "classifier": (
        "BatchSizer",
        "ChangesFn",
        "Classifier",
        "LogitsFn",
        "MEMORY_BYTES",
        "WindowBatch",
        "batched_logits",
        "session_logits",
    ),
    "occlusion": ("BATCH_COPIES", "Explanation", "explain", "explain_classifier", "time_map"),
    "perturbation": (
        "Baseline",
        "PerturbationPlan",
        "baseline_patches",
        "default_plan",
        "donor_patches",
        "draw_donors",
        "draw_starts",
        "start_count",
        "unseen_plan",
    ),
}


def __getattr__(name: str) -> object:
    return public_name(__name__, _HOMES, name)
