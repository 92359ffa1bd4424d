"""Gradient attributions with analytic values, and where they must differ from occlusion."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from edgedistill.attribution.gradients import completeness_gap, gradient_input, integrated_gradients
from edgedistill.attribution.incremental.propagation import IncrementalModel
from edgedistill.errors import ConfigError, ModelError, ShapeError
from edgedistill.models import ModelSpec, build

SHAPE = (3, 2, 20)  # (N, C, T)
CLASSES = 4
TARGETS = torch.tensor([2, 0, 3])


class Linear(nn.Module):
    """Logits that are sums of weighted values."""

    def __init__(self, weights):
        super().__init__()
        self.weights = nn.Parameter(weights)  # (K, C, T)

    def forward(self, x):
        return torch.einsum("nct,kct->nk", x, self.weights)


class Squares(nn.Module):
    """The first logit is the sum of squares, the second its negative, so it is centered."""

    def forward(self, x):
        total = x.square().sum(dim=(1, 2))
        return torch.stack([total, -total], dim=1)


@pytest.fixture
def series(rng):
    return torch.from_numpy(rng.normal(size=SHAPE).astype(np.float32))


@pytest.fixture
def linear(rng):
    return Linear(torch.from_numpy(rng.normal(size=(CLASSES, *SHAPE[1:])).astype(np.float32)))


@pytest.fixture
def network():
    """An FCN in training mode, whose batch norm would mix the series of a batch."""
    torch.manual_seed(0)
    return build(ModelSpec(family="fcn", width=8), channels=2, classes=CLASSES, length=20).train()


@pytest.mark.parametrize("steps", [1, 7])
def test_a_linear_model_is_exact(linear, series, steps):
    """Each value adds its centered weight times how far it is from the baseline."""
    baseline = series.mean(dim=2, keepdim=True)
    weights = (linear.weights - linear.weights.mean(dim=0))[TARGETS].detach()

    plain = gradient_input(linear, series, TARGETS)
    path = integrated_gradients(linear, series, TARGETS, baseline, steps)

    torch.testing.assert_close(plain, weights * series)
    torch.testing.assert_close(path, weights * (series - baseline))


def test_squares_have_their_analytic_attributions(series):
    """x² has the gradient 2x: times the input that is 2x², and the path from zero gives x²."""
    targets = torch.zeros(3, dtype=torch.long)

    plain = gradient_input(Squares(), series, targets)
    path = integrated_gradients(Squares(), series, targets, torch.zeros(()), 8)

    torch.testing.assert_close(plain, 2 * series**2)
    torch.testing.assert_close(path, series**2)


def test_the_completeness_gap_shrinks_with_steps(network, series):
    """A network bends on the way; more points follow it more closely."""
    baseline = torch.zeros(())

    gaps = [
        completeness_gap(
            network,
            series,
            TARGETS,
            baseline,
            integrated_gradients(network, series, TARGETS, baseline, steps),
        ).max()
        for steps in (1, 16, 256)
    ]

    assert gaps[0] > 3 * gaps[1]
    assert gaps[1] > 3 * gaps[2]


def test_gap_is_the_distance_from_the_demanded_sum(linear, series):
    """Attributions that add up to one logit too much miss by one."""
    baseline = torch.zeros(())
    exact = gradient_input(linear, series, TARGETS)
    exact[:, 0, 0] += 1

    gap = completeness_gap(linear, series, TARGETS, baseline, exact)

    torch.testing.assert_close(gap, torch.ones(3))


def test_batch_and_training_mode_do_not_matter_and_are_unchanged(network, series):
    """Neither the others of its batch nor training mode matter; the model is as it was."""
    before = {name: value.clone() for name, value in network.state_dict().items()}
    network.eval()
    alone = integrated_gradients(network, series[:1], TARGETS[:1], torch.zeros(()), 4)
    network.train()

    with torch.no_grad():
        together = integrated_gradients(network, series, TARGETS, torch.zeros(()), 4)

    torch.testing.assert_close(together[:1], alone)
    assert network.training
    assert all(parameter.grad is None for parameter in network.parameters())
    for name, value in network.state_dict().items():
        torch.testing.assert_close(value, before[name])


def test_frozen_parts_stay_frozen(network, series):
    """Modules that were in evaluation mode, and only these, are in it afterwards."""
    parts = list(network.modules())
    parts[-1].eval()

    gradient_input(network, series, TARGETS)

    assert [part.training for part in parts] == [True] * (len(parts) - 1) + [False]


def test_a_model_without_gradient_is_refused(series):
    """Its gradient is not zero, there is none."""

    class Frozen(nn.Module):
        def forward(self, x):
            return x.detach()[:, 0, :4]

    with pytest.raises(ModelError, match="no gradient with respect to the series"):
        gradient_input(Frozen(), series, TARGETS)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"series": torch.zeros(3, 20)}, ShapeError, r"shape \(3, 20\) and targets"),
        ({"targets": TARGETS[:2]}, ShapeError, r"targets of shape \(2,\)"),
        ({"targets": TARGETS + 1}, ShapeError, "run up to 4, the model knows 4 classes"),
        ({"targets": TARGETS - 1}, ShapeError, "The target -1 is no class"),
        ({"baseline": torch.zeros(7)}, ShapeError, r"baseline of shape \(7,\) does not fit"),
        ({"steps": 0}, ConfigError, "steps is 0"),
    ],
    ids=["series", "count", "above", "below", "baseline", "steps"],
)
def test_shapes_that_do_not_fit_are_refused(linear, series, change, error, message):
    """The message names the values seen."""
    given = {"series": series, "targets": TARGETS, "baseline": torch.zeros(()), "steps": 2}

    with pytest.raises(error, match=message):
        integrated_gradients(linear, **{**given, **change})


@pytest.mark.parametrize("output", [(torch.ones(2, 3), 1), torch.ones(2), torch.ones(3, 2)])
def test_output_other_than_logits_is_refused(output):
    class Constant(torch.nn.Module):
        def forward(self, x):
            return output if len(x) == 2 else None

    x = torch.ones(2, 1, 4)

    with pytest.raises(ModelError, match=r"for 2 series; logits \(N, K\) are needed"):
        gradient_input(Constant(), x, torch.zeros(2, dtype=torch.long))
    with pytest.raises(ModelError, match="Wrap it in a module that returns the logits alone"):
        IncrementalModel(Constant(), x)
