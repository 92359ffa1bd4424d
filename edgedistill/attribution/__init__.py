"""Differentiable perturbation saliency in torch, equal to `edgedistill.saliency.occlusion`."""

from edgedistill import public_name
from edgedistill.attribution.functional import (
    correlation,
    normalize,
    perturb,
    plackett_luce,
    signed_change,
    signed_fall,
    timestep_map,
    window_saliency,
)

__all__ = [
    "FollowedChanges",
    "IncrementalModel",
    "PerturbedCopies",
    "UnsupportedModule",
    "autograd",
    "completeness_gap",
    "correlation",
    "gradient_input",
    "integrated_gradients",
    "normalize",
    "perturb",
    "plackett_luce",
    "record",
    "signed_change",
    "signed_fall",
    "timestep_map",
    "window_saliency",
    "window_scores",
]
_HOMES = {
    "gradients": ("completeness_gap", "gradient_input", "integrated_gradients"),
    "incremental.layers": ("UnsupportedModule",),
    "incremental.onnx_graph": ("FollowedChanges", "PerturbedCopies", "window_scores"),
    "incremental.propagation": ("IncrementalModel", "record"),
}


def __getattr__(name: str) -> object:
    return public_name(__name__, _HOMES, name)
