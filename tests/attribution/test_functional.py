"""Saliency on tensors: equal to the NumPy functions, and with the right gradients."""

from __future__ import annotations

import edgedistill_kernels as kernels
import numpy as np
import pytest
import torch
from torch.autograd import gradcheck

from edgedistill import attribution as saliency
from edgedistill.evaluation import metrics
from edgedistill.saliency import occlusion
from edgedistill.saliency.perturbation import PerturbationPlan

SHAPES = [(1, 1, 2), (3, 5, 2), (4, 7, 6)]  # N, W, K


def _logits(rng, shape, dtype=np.float32):
    samples, windows, classes = shape
    clean = rng.normal(scale=2, size=(samples, classes)).astype(dtype)
    perturbed = clean[:, None] + rng.normal(size=(samples, windows, classes)).astype(dtype)
    return clean, perturbed


def _close(actual, expected):
    np.testing.assert_allclose(actual.numpy(), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(("channels", "width"), [(1, 1), (3, 4), (2, 11)])
def test_perturb_agrees_with_the_kernel(rng, channels, width):
    """Exactly: values are only moved; the windows lie at both borders and between."""
    series = rng.normal(size=(3, channels, 11)).astype(np.float32)
    starts = rng.integers(0, 11 - width + 1, size=(3, 5))
    starts[:, 0], starts[:, 1] = 0, 11 - width
    patches = rng.normal(size=(3, 5, channels, width)).astype(np.float32)

    copies = saliency.perturb(*map(torch.from_numpy, (series, starts, patches)))

    np.testing.assert_array_equal(copies.numpy(), kernels.perturb(series, starts, patches))


@pytest.mark.parametrize("form", ["summed", "elementwise"])
@pytest.mark.parametrize("temperature", [1.0, 8.0])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_window_saliency_agrees_with_the_kernel(rng, shape, temperature, form):
    """In float64 to rounding; float32 logits of any size give float32 scores that are not noise."""
    for dtype, rtol, size in (
        (np.float64, 1e-9, 1),
        (np.float32, 1e-6, 1),
        (np.float32, 1e-6, 0.01),
    ):
        clean, perturbed = (size * x for x in _logits(rng, shape, dtype))

        actual = saliency.window_saliency(
            torch.from_numpy(clean), torch.from_numpy(perturbed), temperature=temperature, form=form
        ).numpy()

        expected = kernels.window_saliency(
            clean.astype(np.float64),
            perturbed.astype(np.float64),
            temperature=temperature,
            form=form,
        )
        assert actual.dtype == dtype
        np.testing.assert_allclose(actual, expected, rtol=rtol, atol=1e-13)


@pytest.mark.parametrize("shape", [*SHAPES, (2, 3)], ids=str)
def test_normalize_agrees_with_the_kernel(rng, shape):
    """Whatever the shape; scores without a positive entry too."""
    scores = rng.normal(size=shape).astype(np.float32)

    for array in (scores, -np.abs(scores), np.zeros_like(scores)):
        actual = saliency.normalize(torch.from_numpy(array)).numpy()
        np.testing.assert_allclose(actual, kernels.normalize(array), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_signed_change_agrees_with_occlusion(rng, shape):
    """Training and evaluation use the same quantity."""
    clean, perturbed = _logits(rng, shape)
    targets = rng.integers(shape[2], size=shape[0])

    actual = saliency.signed_change(*map(torch.from_numpy, (clean, perturbed, targets)))

    _close(actual, occlusion.signed_change(clean, perturbed, targets))


@pytest.mark.parametrize("scale", [1e-2, 1.0, 1e3])
def test_correlation_agrees_with_the_metric(rng, scale):
    """At the scales that signed maps have; a constant map gives 0 there and here."""
    first = rng.normal(size=(6, 9)).astype(np.float32)
    second = (scale * (first + rng.normal(size=(6, 9)))).astype(np.float32)
    second[0] = 0.25

    actual = saliency.correlation(torch.from_numpy(first), torch.from_numpy(second))

    assert actual[0] == 0
    _close(actual, metrics.pearson(first, second))


def _doubles(rng, *shapes):
    return [torch.from_numpy(rng.normal(size=shape)).requires_grad_() for shape in shapes]


@pytest.mark.parametrize("form", ["summed", "elementwise"])
def test_gradient_of_window_saliency(rng, form):
    """Through the clean and the perturbed logits, against finite differences."""
    inputs = _doubles(rng, (2, 3), (2, 4, 3))

    assert gradcheck(
        lambda c, p: saliency.window_saliency(c, p, temperature=2.0, form=form), inputs
    )


def test_gradient_of_normalize(rng):
    """Through the mean as well as through the scores."""
    assert gradcheck(saliency.normalize, _doubles(rng, (3, 4)))


def test_gradient_of_signed_change(rng):
    """Through both logits."""
    clean, perturbed = _doubles(rng, (2, 3), (2, 4, 3))
    targets = torch.tensor([2, 0])

    assert gradcheck(lambda c, p: saliency.signed_change(c, p, targets), (clean, perturbed))


def test_gradient_of_correlation(rng):
    """Through both maps."""
    assert gradcheck(saliency.correlation, _doubles(rng, (3, 5), (3, 5)))


@pytest.mark.parametrize(("width", "stride"), [(1, 1), (4, 1), (5, 3), (3, 7)])
def test_timestep_map_agrees_with_the_kernel(rng, width, stride):
    """Where windows overlap at every step, at some, and where steps are left out."""
    plan = PerturbationPlan(length=20, width=width, stride=stride)
    scores = rng.normal(size=(3, len(plan.starts))).astype(np.float32)
    asked = torch.from_numpy(scores), torch.from_numpy(plan.starts)

    found = saliency.timestep_map(*asked, width=width, length=20)

    assert found.dtype == torch.float32
    _close(found, occlusion.time_map(scores, plan))


def test_gradient_of_timestep_map(rng):
    starts = torch.tensor([0, 1, 4])

    def spread(scores):
        return saliency.timestep_map(scores, starts, width=3, length=8)

    assert gradcheck(spread, _doubles(rng, (2, 3)))


def test_gradient_of_perturb(rng):
    """A patch learns from its window, the series from what is outside it."""
    series, patches = _doubles(rng, (2, 2, 6), (2, 3, 2, 2))
    starts = torch.tensor([[0, 2, 4], [1, 1, 3]])

    assert gradcheck(lambda s, p: saliency.perturb(s, starts, p), (series, patches))


def test_gradient_at_constant_and_equal_maps_is_finite():
    """Where a root or a ratio has no derivative, training must not meet NaN."""
    for first in (torch.zeros(2, 5), torch.ones(2, 5)):
        student = first.clone().requires_grad_()
        saliency.correlation(student, torch.zeros(2, 5)).sum().backward()
        assert torch.isfinite(student.grad).all()
    clean = torch.zeros(2, 3, requires_grad=True)
    scores = saliency.window_saliency(clean, clean[:, None].expand(2, 4, 3), temperature=8.0)
    saliency.normalize(scores).sum().backward()
    assert torch.isfinite(clean.grad).all()
