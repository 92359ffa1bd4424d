"""Gradient attributions of torch modules: cheap, fine-grained, and not occlusion.

Occlusion measures the change of the logit when a window is really covered. A gradient
is the rate at which the logit moves under an infinitely small change, and integrated
gradients add that up on the straight path to a baseline, on which all steps change at
once. How alike the two are depends on the model: for two trained FCNs, integrated
gradients correlated with exact occlusion at 0.06 and 0.84 for windows of one step, at
0.23 and 0.94 for windows of eight. So neither stands in for the maps that a contract
compares; they are other quantities, to be looked at beside them.

As in the signed maps of occlusion, logits are centered over the classes first.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from edgedistill.attribution.functional import check_logits
from edgedistill.errors import ConfigError, ModelError, ShapeError


def gradient_input(model: nn.Module, series: Tensor, targets: Tensor) -> Tensor:
    """Return gradient times input: a linear estimate of each value's effect. This is not occlusion.

    Args:
        model: maps (N, C, T) to logits (N, K); run in evaluation mode.
        series: (N, C, T).
        targets: class to explain, (N,).

    Returns:
        (N, C, T), in centered logits; it has the sign of the effect only where the model is
        close to linear.

    Raises:
        ShapeError: series, targets and the model's classes do not fit together.
        ModelError: the logits do not depend on the series in a way that has a gradient.

    Source: Shrikumar et al. 2016, arXiv:1605.01713.
    """
    _check(series, targets)
    with _evaluated(model):
        return _gradient(model, series, targets) * series


def integrated_gradients(
    model: nn.Module, series: Tensor, targets: Tensor, baseline: Tensor, steps: int = 50
) -> Tensor:
    """Return the mean gradient on the path from a baseline, times the path. This is not occlusion.

    They add up to the difference of the target's logit between series and baseline;
    `completeness_gap` measures how well that holds with this number of steps.

    Args:
        model: maps (N, C, T) to logits (N, K); run in evaluation mode.
        series: (N, C, T).
        targets: class to explain, (N,).
        baseline: start of the path, of a shape that broadcasts to (N, C, T).
        steps: number of points on the path, in the middles of equal parts.

    Returns:
        (N, C, T), in centered logits.

    Raises:
        ShapeError: series, targets, baseline and the model's classes do not fit together.
        ConfigError: less than one step.
        ModelError: the logits do not depend on the series in a way that has a gradient.

    Source: Sundararajan et al. 2017, arXiv:1703.01365.
    """
    if steps < 1:
        raise ConfigError(f"steps is {steps}; give 1 or more, 50 are usual.")
    _check(series, targets)
    start = _whole(baseline, series)
    total = torch.zeros_like(series)
    with _evaluated(model):
        for step in range(steps):
            point = start + (series - start) * ((step + 0.5) / steps)
            total += _gradient(model, point, targets)
    return (series - start) * total / steps


def completeness_gap(
    model: nn.Module, series: Tensor, targets: Tensor, baseline: Tensor, attributions: Tensor
) -> Tensor:
    """Return the distance of attributions from the sum that completeness demands.

    Args:
        model: maps (N, C, T) to logits (N, K); run in evaluation mode.
        series: (N, C, T).
        targets: class that is explained, (N,).
        baseline: baseline of a shape that broadcasts to (N, C, T).
        attributions: (N, C, T).

    Returns:
        (N,), in centered logits; 0 is exact.

    Raises:
        ShapeError: series, targets, baseline and the model's classes do not fit together.

    Source: Sundararajan et al. 2017, arXiv:1703.01365, Proposition 1.
    """
    _check(series, targets)
    with _evaluated(model), torch.no_grad():
        f_x = _target_logit(model, series, targets)
        f_base = _target_logit(model, _whole(baseline, series), targets)
    return (attributions.sum(dim=(1, 2)) - (f_x - f_base)).abs()


def _gradient(model: nn.Module, point: Tensor, targets: Tensor) -> Tensor:
    """Return the gradient of the target's centered logit; the parameters' own is left alone."""
    with torch.enable_grad():
        leaf = point.detach().requires_grad_()
        logit = _target_logit(model, leaf, targets)
        if not logit.requires_grad:
            raise ModelError(
                "The model's logits have no gradient with respect to the series. Explain it by "
                "occlusion."
            )
        (gradient,) = torch.autograd.grad(logit.sum(), leaf)
    return gradient


def _target_logit(model: nn.Module, series: Tensor, targets: Tensor) -> Tensor:
    """Return the target's centered logit, (N,)."""
    logits = check_logits(model(series), len(series))
    if int(targets.max()) >= logits.shape[1]:
        raise ShapeError(
            f"The targets run up to {int(targets.max())}, the model knows {logits.shape[1]} "
            "classes. Explain one of these."
        )
    centered = logits - logits.mean(dim=1, keepdim=True)
    return centered.gather(1, targets[:, None])[:, 0]


def _check(series: Tensor, targets: Tensor) -> None:
    if series.ndim != 3 or targets.shape != series.shape[:1] or not len(series):
        raise ShapeError(
            f"Got series of shape {tuple(series.shape)} and targets of shape "
            f"{tuple(targets.shape)}; (N, C, T) and (N,) are needed. Give one class a series."
        )
    if int(targets.min()) < 0:
        raise ShapeError(f"The target {int(targets.min())} is no class. Count them from 0.")


def _whole(baseline: Tensor, series: Tensor) -> Tensor:
    try:
        return baseline.expand_as(series)
    except RuntimeError as error:
        raise ShapeError(
            f"A baseline of shape {tuple(baseline.shape)} does not fit series of shape "
            f"{tuple(series.shape)}. Give one that broadcasts to it."
        ) from error


@contextmanager
def _evaluated(model: nn.Module) -> Iterator[None]:
    """Put a model into evaluation mode: in training mode, series of a batch would mix."""
    in_training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        # cuDNN's recurrent networks have no gradient in evaluation mode.
        with torch.backends.cudnn.flags(enabled=False):
            yield
    finally:
        for module in in_training:
            module.training = True
