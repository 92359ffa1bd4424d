"""The differentiable side of saliency: what `edgedistill.saliency.occlusion` measures, in torch."""

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
    "correlation",
    "normalize",
    "perturb",
    "plackett_luce",
    "signed_change",
    "signed_fall",
    "timestep_map",
    "window_saliency",
]
