"""Costs, against sums done by hand."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from edgedistill.models import FAMILIES, Cost, ModelSpec, build, cost


def test_fcn_by_hand():
    """8 x (3 x 8) + 16 x (8 x 5) + 8 x (16 x 3) a step, and the head once."""
    model = build(ModelSpec(family="fcn", width=8), channels=3, classes=4, length=10)

    macs = 10 * (8 * 3 * 8 + 16 * 8 * 5 + 8 * 16 * 3) + 8 * 4
    parameters = (8 * 24 + 8 + 16) + (16 * 40 + 16 + 32) + (8 * 48 + 8 + 16) + (8 * 4 + 4)
    running = 2 * (8 + 16 + 8)

    assert cost(model, channels=3, length=10) == Cost(
        parameters=parameters, macs=macs, size_bytes=4 * (parameters + running)
    )


def test_lstm_by_hand():
    """Four gates read the input and the state: 4 x h x (in + h) a layer and step."""
    model = build(ModelSpec(family="lstm", width=5, depth=2), channels=3, classes=2, length=7)

    expected = 7 * (4 * 5 * (3 + 5) + 4 * 5 * (5 + 5)) + 5 * 2

    assert cost(model, channels=3, length=7).macs == expected


def test_time_first_lstm_counts_its_steps():
    class TimeFirst(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm = nn.LSTM(1, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            states: torch.Tensor = self.lstm(x.permute(2, 0, 1))[0]
            return states[-1]

    assert cost(TimeFirst(), channels=1, length=7).macs == 7 * 4 * 2 * (1 + 2)


def test_lite_by_hand():
    """Learned, fixed (11 filters of 96), depthwise 20 and 10, pointwise twice, head."""
    model = build(ModelSpec(family="lite", width=4), channels=1, classes=2, length=6)
    features = 3 * 4 + 17

    first = 4 * (40 + 20 + 10) + 11 * 96
    layers = features * 20 + features * 4 + 4 * 10 + 4 * 4

    assert cost(model, channels=1, length=6).macs == 6 * (first + layers) + 4 * 2


@pytest.mark.parametrize("family", FAMILIES)
def test_counting_leaves_the_model_as_it_was(family):
    """Modes (one module frozen, as a student's batch norms are), statistics, gradients, hooks."""
    model = build(ModelSpec(family=family, width=2), channels=1, classes=2, length=8)
    model.train()
    next(model.children()).eval()
    modes = [m.training for m in model.modules()]
    state = {name: value.clone() for name, value in model.state_dict().items()}

    cost(model, channels=1, length=8)

    assert [m.training for m in model.modules()] == modes
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in state.items())
    assert all(p.grad is None for p in model.parameters())
    assert not any(m._forward_hooks for m in model.modules())


def test_frozen_parameters_count():
    """A frozen teacher is as large as it was."""
    model = build(ModelSpec(family="fcn", width=2), channels=1, classes=2, length=8)
    before = cost(model, channels=1, length=8)

    model.requires_grad_(False)

    assert cost(model, channels=1, length=8) == before


def test_network_without_parameters_costs_nothing():
    assert cost(nn.Flatten(), channels=1, length=8) == Cost(parameters=0, macs=0, size_bytes=0)
