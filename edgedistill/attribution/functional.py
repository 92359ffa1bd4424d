"""Perturbation saliency on torch tensors, with gradients.

Each function equals the NumPy one of the same name, as tests check. Where there is
enough to do, the compiled kernels do it; measured on two cores, that is faster for copies and
window saliency (`benchmarks/kernels.py`), while `normalize` alone is quicker in plain torch.
"""

from __future__ import annotations

import torch
from edgedistill_kernels.reference import Form
from torch import Tensor
from torch.nn import functional

from edgedistill.attribution import autograd as bridge
from edgedistill.errors import ModelError

_COPIES_PAY = 1 << 18  # elements from which the kernels are faster than plain torch
_LOGITS_PAY = 1 << 13


def check_logits(output: object, count: int) -> Tensor:
    """Return what a model gives for `count` series, if it is one row of logits a series, (N, K).

    Raises:
        ModelError: it is something else, such as a tuple.
    """
    if not isinstance(output, Tensor) or output.ndim != 2 or len(output) != count:
        shape = f" of shape {tuple(output.shape)}" if isinstance(output, Tensor) else ""
        raise ModelError(
            f"The model gives a {type(output).__name__}{shape} for {count} series; logits (N, K) "
            "are needed. Wrap it in a module that returns the logits alone."
        )
    return output


def perturb(series: Tensor, starts: Tensor, patches: Tensor) -> Tensor:
    """Return a copy of every series for each of its windows, the window replaced by its patch.

    Args:
        series: (N, C, T).
        starts: (N, W).
        patches: (N, W, C, w).

    Returns:
        (N, W, C, T).
    """
    if _is_for_kernel(series, starts, patches):
        return bridge.perturb(series, starts, patches)
    width, length = patches.shape[-1], series.shape[-1]
    offset = torch.arange(length, device=series.device) - starts[..., None]  # (N, W, T)
    inside = ((offset >= 0) & (offset < width))[:, :, None]  # (N, W, 1, T)
    index = offset.clamp(0, width - 1)[:, :, None].expand(-1, -1, series.shape[1], -1)
    return torch.where(inside, patches.gather(-1, index), series[:, None])


def window_saliency(
    clean: Tensor, perturbed: Tensor, *, temperature: float, form: Form = "summed"
) -> Tensor:
    """Return `KL(p(x) || p(x~)) * temperature**2` of every window.

    Args:
        clean: (N, K).
        perturbed: (N, W, K).
        temperature: divides the logits.
        form: "summed" (N, W), or "elementwise" (N, W, K).

    Returns:
        Of the type of `clean`.

    Source: Temporal Saliency Distillation, arXiv:2601.04263.
    """
    if perturbed.numel() >= _LOGITS_PAY and bridge.supports_kernels(clean, perturbed):
        return bridge.window_saliency(clean, perturbed, temperature=temperature, form=form)
    log_p = functional.log_softmax(_precise(clean) / temperature, dim=-1)[:, None]
    log_q = functional.log_softmax(_precise(perturbed) / temperature, dim=-1)
    terms = log_p.exp() * (log_p - log_q) * temperature**2
    scores = terms if form == "elementwise" else terms.sum(dim=-1)
    return scores.to(clean.dtype)


def normalize(saliency: Tensor, *, epsilon: float = 1e-8) -> Tensor:
    """Divide a whole batch of scores by the mean of its positive entries.

    Source: Temporal Saliency Distillation, arXiv:2601.04263.
    """
    positive = saliency > 0
    mean = (saliency * positive).sum() / positive.sum().clamp(min=1)
    return saliency / (mean + epsilon)


def temporal_saliency(
    clean: Tensor, perturbed: Tensor, *, temperature: float, form: Form = "summed"
) -> Tensor:
    """Return `normalize(window_saliency(...))`, in one step where that is faster.

    Args:
        clean: (N, K).
        perturbed: (N, W, K).
        temperature: divides the logits.
        form: "summed" (N, W), or "elementwise" (N, W, K).

    Source: Temporal Saliency Distillation, arXiv:2601.04263.
    """
    if perturbed.numel() >= _LOGITS_PAY and bridge.supports_kernels(clean, perturbed):
        return bridge.temporal_saliency(clean, perturbed, temperature=temperature, form=form)
    return normalize(window_saliency(clean, perturbed, temperature=temperature, form=form))


def signed_change(clean: Tensor, perturbed: Tensor, targets: Tensor) -> Tensor:
    """Return the fall of the target's centered logit when a window is covered.

    Args:
        clean: (N, K).
        perturbed: (N, W, K).
        targets: class to explain, (N,).

    Returns:
        (N, W).
    """
    return signed_fall(perturbed - clean[:, None], targets)


def signed_fall(changes: Tensor, targets: Tensor) -> Tensor:
    """Return `signed_change` from the changes of the logits, (N, W, K) -> (N, W)."""
    fall = -_centered(changes)
    index = targets[:, None, None].expand(-1, fall.shape[1], 1)
    return fall.gather(2, index).squeeze(2)


def timestep_map(scores: Tensor, starts: Tensor, *, width: int, length: int) -> Tensor:
    """Return for every time step the mean score of the windows that cover it, else 0.

    Args:
        scores: (N, W).
        starts: first steps of windows that all series share, (W,).
        width: w, steps.
        length: T, steps.

    Returns:
        (N, T), of the type of `scores`.
    """
    edges = torch.cat([starts, starts + width])  # where a window begins to count, and where it ends
    values = _precise(scores)
    both = torch.cat([values, torch.ones_like(values[:1])])  # the last row counts windows
    steps = both.new_zeros(len(both), length + 1)
    steps = steps.index_add(1, edges, torch.cat([both, -both], dim=1)).cumsum(dim=1)[:, :length]
    return (steps[:-1] / steps[-1:].clamp(min=1)).to(scores.dtype)


def correlation(first: Tensor, second: Tensor, *, epsilon: float = 1e-8) -> Tensor:
    """Return Pearson's correlation of each pair of maps, (N, W) -> (N,); 0 for a constant map."""
    a = first - first.mean(dim=-1, keepdim=True)
    b = second - second.mean(dim=-1, keepdim=True)
    norm = (a.square().sum(dim=-1) * b.square().sum(dim=-1) + epsilon**2).sqrt()
    return (a * b).sum(dim=-1) / norm


def plackett_luce(student: Tensor, teacher: Tensor, places: int) -> Tensor:
    """Return the negative log-likelihood of the teacher's first places under the student's scores.

    Args:
        student: scores of windows, (N, W).
        teacher: (N, W).
        places: number of first places whose order counts.

    Returns:
        Nats a place, a scalar.

    Source: Plackett 1975, "The analysis of permutations"; Luce 1959.
    """
    order = teacher.argsort(dim=1, descending=True, stable=True)
    scores = student.gather(1, order)
    remaining = scores.flip(1).logcumsumexp(dim=1).flip(1)  # of all that are not placed yet
    return (remaining - scores)[:, :places].mean()


def _is_for_kernel(series: Tensor, starts: Tensor, patches: Tensor) -> bool:
    """Return whether there is enough to copy, and no gradient to pass on."""
    needs_gradient = torch.is_grad_enabled() and (series.requires_grad or patches.requires_grad)
    enough = starts.numel() * series[0].numel() >= _COPIES_PAY if len(series) else False
    same = starts.device == series.device
    return enough and same and not needs_gradient and bridge.supports_kernels(series, patches)


def _precise(logits: Tensor) -> Tensor:
    """Return logits in float64: the terms of a small KL cancel below float32's rounding.

    The scores of a fresh student at temperature 8 would be mostly noise.
    """
    return logits if logits.device.type == "mps" else logits.double()  # Apple's GPUs have none


def _centered(logits: Tensor) -> Tensor:
    return logits - logits.mean(dim=-1, keepdim=True)
