"""The training loop: devices, checkpoints, pruning, and the search for weights."""

from edgedistill import public_name

__all__ = [
    "FACTS",
    "WEIGHTS",
    "Epoch",
    "FitConfig",
    "HalvingStage",
    "Pruner",
    "Pruning",
    "RunOutputs",
    "Trial",
    "distill",
    "epoch_callback",
    "fit",
    "networks",
    "open_classifier",
    "weight_search",
]
_HOMES = {
    "config": ("FACTS", "WEIGHTS", "Epoch", "FitConfig", "RunOutputs", "epoch_callback"),
    "distill": ("Pruning", "distill"),
    "fit": ("fit",),
    "networks": ("open_classifier",),
    "pruning": ("Pruner",),
    "weight_search": ("HalvingStage", "Trial"),
}


def __getattr__(name: str) -> object:
    return public_name(__name__, _HOMES, name)
