"""The change behind a ReLU, against running it twice."""

from __future__ import annotations

import torch

from edgedistill.attribution.incremental.layers.activation import rectified

LARGEST = torch.finfo(torch.float64).max  # stands beyond the borders of a layer


def test_it_is_the_difference_of_two_relus_with_its_gradients():
    torch.manual_seed(0)
    change, z, weight = torch.randn(3, 50, dtype=torch.float64)
    pairs = []
    for difference in (
        lambda dz, level: rectified(dz, -level),
        lambda dz, level: torch.relu(level + dz) - torch.relu(level),
    ):
        dz, level = change.clone().requires_grad_(), z.clone().requires_grad_()
        found = difference(dz, level)
        (weight * found).sum().backward()
        pairs.append((found.detach(), dz.grad, level.grad))

    for ours, expected in zip(*pairs, strict=True):
        torch.testing.assert_close(ours, expected, rtol=0, atol=1e-15)


def test_nothing_gets_through_beyond_the_borders():
    change = torch.randn(20, dtype=torch.float64, requires_grad=True)
    below = torch.full((20,), LARGEST, dtype=torch.float64, requires_grad=True)

    found = rectified(change, below)
    found.sum().backward()

    for value in (found, change.grad, below.grad):
        assert (value == 0).all()


def test_gradcheck():
    torch.manual_seed(1)
    inputs = [torch.randn(9, dtype=torch.float64, requires_grad=True) for _ in range(2)]

    assert torch.autograd.gradcheck(rectified, inputs)


def test_the_type_is_that_of_the_change():
    """Mixed precision: what is followed is rounded, what is clean may not be."""
    change = torch.randn(4, dtype=torch.bfloat16, requires_grad=True)

    found = rectified(change, torch.randn(4, requires_grad=True))

    assert found.dtype == torch.bfloat16
