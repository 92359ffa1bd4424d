"""Perturbation saliency as plain array kernels, on whatever is fastest here.

Axes: N samples, C channels, T time steps, K classes, W windows of w steps.

Every function takes `backend`: "reference" (NumPy), "cpu" (Numba), "cuda" (Numba, NVIDIA GPUs),
or "auto": "cuda" for arrays on a GPU, "cpu" where Numba is installed and there is enough to do,
else "reference". `BACKENDS` names those that run here. All give the same numbers, to rounding.
They raise ValueError for a backend that does not exist, RuntimeError for one that cannot run
here, and TypeError for types that it does not compute with.

Arrays may live on a GPU: anything with `__cuda_array_interface__`. Results then do too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edgedistill_kernels import backends, checks, reference
from edgedistill_kernels.reference import Floats, Form, Ints

if TYPE_CHECKING:
    BACKENDS: tuple[str, ...]

__all__ = [
    "BACKENDS",
    "normalize",
    "normalize_backward",
    "pearson",
    "perturb",
    "spearman",
    "temporal_saliency",
    "temporal_saliency_backward",
    "timestep_map",
    "top_sign_agreement",
    "window_saliency",
    "window_saliency_backward",
]
# Elements from which compiled code pays, the time to load it (about a second) left aside.
_COPIES_PAY = 1 << 16
_LOGITS_PAY = 1 << 14
_SCORES_PAY = 1 << 15
_MAPS_PAY = 1 << 14


if not TYPE_CHECKING:

    def __getattr__(name):
        """Look for Numba and a GPU only when `BACKENDS` is read."""
        if name == "BACKENDS":
            return backends.available()
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def perturb(
    series: Floats,
    starts: Ints,
    patches: Floats,
    *,
    out: Floats | None = None,
    backend: str = "auto",
) -> Floats:
    """Return a copy of every series for each of its windows, the window replaced by its patch.

    Args:
        series: (N, C, T).
        starts: first step of each window, (N, W).
        patches: values that fill each window, (N, W, C, w).
        out: a C-contiguous buffer of the result's shape and the series' type to write into.
        backend: see the package.

    Returns:
        (N, W, C, T), of the type of `series`; `out` if it was given.

    Raises:
        ValueError: the shapes do not fit, or a window leaves its series.
    """
    checks.fit_windows(series, starts, patches)
    shape = (*starts.shape, *series.shape[1:])
    if out is not None:
        checks.fit_buffer(out, shape, series.dtype)
    pays = starts.size * series[0].size >= _COPIES_PAY if len(series) else False
    chosen = backends.choose(backend, pays, series, patches)
    if chosen == "reference":
        copies = np.empty(shape, series.dtype) if out is None else out
        reference.perturb(series, starts, patches, copies)
        return copies
    target = shape if out is None else out
    return backends.run(chosen, "perturb", [series, starts, patches], [], [target], series.dtype)[0]


def window_saliency(
    clean: Floats,
    perturbed: Floats,
    *,
    temperature: float = 1.0,
    form: Form = "summed",
    backend: str = "auto",
) -> Floats:
    """Return `KL(p(x) || p(x~)) * temperature**2` of every window.

    Args:
        clean: logits of the series, (N, K).
        perturbed: logits of the perturbed copies, (N, W, K).
        temperature: divides the logits.
        form: "summed" is the divergence, (N, W); "elementwise" keeps its K terms
            apart, (N, W, K), and they can be negative.
        backend: see the package.

    Returns:
        Of the type of `clean`; computed in float64.

    Raises:
        ValueError: the shapes do not fit.

    Source: Temporal Saliency Distillation, arXiv:2601.04263.
    """
    checks.fit_logits(clean, perturbed)
    chosen = backends.choose(backend, perturbed.size >= _LOGITS_PAY, clean, perturbed)
    if chosen == "reference":
        return reference.window_saliency(clean, perturbed, temperature=temperature, form=form)
    shape = _shape_of(perturbed, form)
    return backends.run(
        chosen, "window_saliency", [clean, perturbed], [temperature], [shape], clean.dtype
    )[0]


def window_saliency_backward(
    grad: Floats,
    clean: Floats,
    perturbed: Floats,
    *,
    temperature: float = 1.0,
    backend: str = "auto",
) -> tuple[Floats, Floats]:
    """Return the gradients of `window_saliency`.

    Args:
        grad: gradient of the scores, (N, W) if summed, (N, W, K) if elementwise.
        clean: (N, K).
        perturbed: (N, W, K).
        temperature: as in the forward pass.
        backend: see the package.

    Returns:
        Those of `clean`, (N, K), and of `perturbed`, (N, W, K).

    Raises:
        ValueError: the shapes do not fit.
    """
    chosen = _choose_backward(grad, clean, perturbed, backend)
    if chosen == "reference":
        return reference.window_saliency_backward(grad, clean, perturbed, temperature=temperature)
    inputs, shapes = [grad, clean, perturbed], [clean.shape, perturbed.shape]
    found = backends.run(
        chosen, "window_saliency_backward", inputs, [temperature], shapes, clean.dtype
    )
    return found[0], found[1]


def normalize(saliency: Floats, *, epsilon: float = 1e-8, backend: str = "auto") -> Floats:
    """Divide a whole batch of scores, of any shape, by the mean of its positive entries.

    Source: Temporal Saliency Distillation, arXiv:2601.04263.
    """
    chosen = backends.choose(backend, saliency.size >= _SCORES_PAY, saliency)
    if chosen == "reference":
        return reference.normalize(saliency, epsilon=epsilon)
    return backends.run(
        chosen, "normalize", [saliency], [epsilon], [saliency.shape], saliency.dtype
    )[0]


def normalize_backward(
    grad: Floats, saliency: Floats, *, epsilon: float = 1e-8, backend: str = "auto"
) -> Floats:
    """Return the gradient of `normalize` at `saliency`, through the mean as well.

    Raises:
        ValueError: gradient and saliency differ in shape.
    """
    checks.fit_gradient(grad, saliency.shape)
    chosen = backends.choose(backend, saliency.size >= _SCORES_PAY, grad, saliency)
    if chosen == "reference":
        return reference.normalize_backward(grad, saliency, epsilon=epsilon)
    return backends.run(
        chosen, "normalize_backward", [grad, saliency], [epsilon], [saliency.shape], saliency.dtype
    )[0]


def temporal_saliency(
    clean: Floats,
    perturbed: Floats,
    *,
    temperature: float = 1.0,
    form: Form = "summed",
    epsilon: float = 1e-8,
    backend: str = "auto",
) -> Floats:
    """Return the normalized window saliency of a batch: what is distilled.

    Args:
        clean: (N, K).
        perturbed: (N, W, K).
        temperature: divides the logits.
        form: see `window_saliency`.
        epsilon: added to the mean of the positive scores.
        backend: see the package.

    Returns:
        (N, W), or (N, W, K) if elementwise.

    Raises:
        ValueError: the shapes do not fit.

    Source: Temporal Saliency Distillation, arXiv:2601.04263.
    """
    checks.fit_logits(clean, perturbed)
    chosen = backends.choose(backend, perturbed.size >= _LOGITS_PAY, clean, perturbed)
    if chosen == "reference":
        return reference.temporal_saliency(
            clean, perturbed, temperature=temperature, form=form, epsilon=epsilon
        )
    numbers, shape = [temperature, epsilon], _shape_of(perturbed, form)
    return backends.run(
        chosen, "temporal_saliency", [clean, perturbed], numbers, [shape], clean.dtype
    )[0]


def temporal_saliency_backward(
    grad: Floats,
    clean: Floats,
    perturbed: Floats,
    *,
    temperature: float = 1.0,
    epsilon: float = 1e-8,
    backend: str = "auto",
) -> tuple[Floats, Floats]:
    """Return the gradients of `temporal_saliency`, through the normalization as well.

    Args:
        grad: gradient of the normalized scores, (N, W) if summed, (N, W, K) if elementwise.
        clean: (N, K).
        perturbed: (N, W, K).
        temperature: as in the forward pass.
        epsilon: as in the forward pass.
        backend: see the package.

    Returns:
        Those of `clean`, (N, K), and of `perturbed`, (N, W, K).

    Raises:
        ValueError: the shapes do not fit.
    """
    chosen = _choose_backward(grad, clean, perturbed, backend)
    if chosen == "reference":
        return reference.temporal_saliency_backward(
            grad, clean, perturbed, temperature=temperature, epsilon=epsilon
        )
    inputs, shapes = [grad, clean, perturbed], [clean.shape, perturbed.shape]
    numbers = [temperature, epsilon]
    found = backends.run(chosen, "temporal_saliency_backward", inputs, numbers, shapes, clean.dtype)
    return found[0], found[1]


def timestep_map(
    scores: Floats, starts: Ints, *, width: int, length: int, backend: str = "auto"
) -> Floats:
    """Return for every time step the mean score of the windows that cover it.

    Args:
        scores: (N, W).
        starts: (N, W).
        width: w, steps.
        length: T, steps.
        backend: see the package.

    Returns:
        (N, T), of the type of `scores`; 0 where no window reaches.

    Raises:
        ValueError: the shapes do not fit, or a window leaves its series.
    """
    checks.fit_scores(scores, starts)
    checks.inside(starts, width, length)
    chosen = backends.choose(backend, scores.size * width >= _MAPS_PAY, scores)
    if chosen == "reference":
        return reference.timestep_map(scores, starts, width=width, length=length)
    shape = (len(scores), length)
    return backends.run(chosen, "timestep_map", [scores, starts], [width], [shape], scores.dtype)[0]


def pearson(first: Floats, second: Floats, *, backend: str = "auto") -> Floats:
    """Return the correlation of each pair of maps, (N, W) -> (N,), in float64.

    A map that is constant, or holds NaN, gives no reasons: 0.

    Raises:
        ValueError: the maps differ in shape.
    """
    chosen = _choose_maps(first, second, backend)
    if chosen == "reference":
        return reference.pearson(first, second)
    return _compare(chosen, "pearson", first, second, [])


def spearman(first: Floats, second: Floats, *, backend: str = "auto") -> Floats:
    """Return the rank correlation of each pair of maps, (N, W) -> (N,); ties share their rank.

    Raises:
        ValueError: the maps differ in shape.
    """
    chosen = _choose_maps(first, second, backend)
    if chosen == "reference":
        return reference.spearman(first, second)
    return _compare(chosen, "spearman", first, second, [])


def top_sign_agreement(
    first: Floats, second: Floats, *, count: int, backend: str = "auto"
) -> Floats:
    """Return the share of the `count` strongest windows that both maps hold, same in sign, (N,).

    Of equally strong windows the first count. A window that moves nothing has no sign.

    Raises:
        ValueError: the maps differ in shape, or have fewer than `count` windows.

    Source: Krishna et al. 2022, arXiv:2202.01602, sign agreement.
    """
    chosen = _choose_maps(first, second, backend)
    if not 1 <= count <= first.shape[1]:
        raise ValueError(f"Asked for the {count} strongest of {first.shape[1]} windows.")
    if chosen == "reference":
        return reference.top_sign_agreement(first, second, count=count)
    return _compare(chosen, "top_sign_agreement", first, second, [count])


def _shape_of(perturbed: Floats, form: Form) -> checks.Shape:
    return perturbed.shape if form == "elementwise" else perturbed.shape[:2]


def _choose_backward(grad: Floats, clean: Floats, perturbed: Floats, backend: str) -> str:
    checks.fit_logits(clean, perturbed)
    checks.fit_gradient(grad, perturbed.shape[:2], perturbed.shape)
    return backends.choose(backend, perturbed.size >= _LOGITS_PAY, grad, clean, perturbed)


def _choose_maps(first: Floats, second: Floats, backend: str) -> str:
    checks.fit_maps(first, second)
    return backends.choose(backend, first.size >= _MAPS_PAY, first, second)


def _compare(
    backend: str, kernel: str, first: Floats, second: Floats, numbers: list[float]
) -> Floats:
    shape, double = (len(first),), np.dtype(np.float64)
    return backends.run(backend, kernel, [first, second], numbers, [shape], double)[0]
