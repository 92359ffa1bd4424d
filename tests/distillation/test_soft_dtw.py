"""Soft-DTW as torch sees it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from edgedistill_kernels import soft_dtw as kernel

from edgedistill.distillation.soft_dtw import soft_dtw
from edgedistill.errors import ShapeError


def drawn(rng, *shape, kind=torch.float64):
    return torch.from_numpy(rng.normal(size=shape)).to(kind).requires_grad_()


@pytest.mark.parametrize("lengths", [(1, 1), (5, 5), (3, 7)], ids=str)
@pytest.mark.parametrize("gamma", [0.1, 1.2])
def test_the_gradient_is_that_of_the_value(rng, lengths, gamma):
    """By finite differences, for both sequences."""
    first, second = (drawn(rng, 2, 3, length) for length in lengths)

    assert torch.autograd.gradcheck(lambda a, b: soft_dtw(a, b, gamma=gamma), (first, second))


def test_a_cost_is_the_squared_distance_of_two_steps(rng):
    first, second = drawn(rng, 2, 3, 4), drawn(rng, 2, 3, 6)

    values = soft_dtw(first, second, gamma=1.2)

    a, b = (x.detach().numpy() for x in (first, second))
    costs = np.zeros((2, 4, 6))
    for n, s, m in np.ndindex(costs.shape):
        costs[n, s, m] = ((a[n, :, s] - b[n, :, m]) ** 2).sum()
    np.testing.assert_allclose(values.detach(), kernel.soft_dtw(costs, gamma=1.2)[0], rtol=1e-9)


def test_float32_and_no_gradient(rng):
    """As training and validation ask; enough steps for the compiled loop."""
    first, second = (drawn(rng, 4, 8, 40, kind=torch.float32) for _ in range(2))

    value = soft_dtw(first, second, gamma=1.2)
    value.sum().backward()
    with torch.no_grad():
        again = soft_dtw(first, second, gamma=1.2)

    assert value.dtype == first.grad.dtype == torch.float32
    assert torch.equal(value, again)
    assert not again.requires_grad
    precise = soft_dtw(first.double(), second.double(), gamma=1.2)
    torch.testing.assert_close(value.double(), precise, rtol=1e-5, atol=1e-5)


def test_other_channels_are_refused(rng):
    with pytest.raises(ShapeError, match=r"\(2, 3, 4\) and \(2, 5, 4\). Project them to the same"):
        soft_dtw(drawn(rng, 2, 3, 4), drawn(rng, 2, 5, 4), gamma=1.0)
