"""Perturbation saliency as plain array kernels.

Axes: N samples, C channels, T time steps, K classes, W windows of w steps.
"""

from edgedistill_kernels.reference import normalize, perturb, timestep_map, window_saliency

__all__ = ["normalize", "perturb", "timestep_map", "window_saliency"]
