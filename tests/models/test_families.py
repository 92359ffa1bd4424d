"""Convolutions that keep the length."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from edgedistill.models.families import SameConv1d


@pytest.mark.parametrize("dilation", [1, 2, 3])
@pytest.mark.parametrize("kernel", [1, 2, 3, 8, 40])
def test_same_convolution_pads_the_odd_zero_on_the_right(kernel, dilation):
    """Padding by hand is the slow, obvious definition; the odd zero goes to the right."""
    x = torch.randn(2, 4, 9)
    ours = SameConv1d(4, 6, kernel, dilation=dilation, groups=2)
    theirs = nn.Conv1d(4, 6, kernel, dilation=dilation, groups=2)
    theirs.load_state_dict(ours.state_dict())
    left, right = dilation * (kernel - 1) // 2, (dilation * (kernel - 1) + 1) // 2

    actual = ours(x)

    torch.testing.assert_close(actual, theirs(nn.functional.pad(x, (left, right))))
    assert actual.shape == (2, 6, 9)
