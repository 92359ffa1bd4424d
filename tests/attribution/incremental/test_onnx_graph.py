"""Graphs of constant windows, against running every perturbed copy through the whole network."""

from __future__ import annotations

import edgedistill_kernels as kernels
import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from edgedistill.attribution.incremental.layers import UnsupportedModule
from edgedistill.attribution.incremental.onnx_graph import (
    FollowedChanges,
    PerturbedCopies,
    window_scores,
)
from edgedistill.models import FAMILIES, ModelSpec, build
from edgedistill.saliency.perturbation import PerturbationPlan

LENGTH, CLASSES = 37, 3
PLANS = [(5, 3), (1, 1), (6, 9), (37, 1), (8, 4)]  # width and stride; the last window ends T


class Odds(nn.Module):
    """What our networks lack: slices, in-place sums, sums of channels, a vector of all steps."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv1d(2, 4, 3, stride=2, padding=2)
        self.second = nn.Conv1d(4, 4, 3, padding=1, groups=2)
        self.activation = nn.ReLU(inplace=True)
        self.wide = nn.Linear(4 * 22, 6)
        self.narrow = nn.Linear(6, 6)
        self.head = nn.Linear(15, CLASSES)

    def forward(self, x):
        x = self.first(x)
        y = self.second(self.activation(x * 2))
        y += functional.gelu(x)
        y = torch.cat([y[:, :2], y.sum(dim=1, keepdim=True), -y[:, 3:]], dim=1) / 2
        y = functional.relu(functional.pad(y, (1, 1)) - 0.1, inplace=True)
        flat = self.wide(torch.flatten(y, 1))
        other = self.narrow(flat)
        return self.head(torch.cat([flat - other, other[:, 1:4], other], dim=1))


def _stack(*layers: nn.Module, features: int) -> nn.Module:
    return nn.Sequential(*layers, nn.Linear(features, CLASSES))


NETWORKS = {
    "pools": lambda: _stack(
        nn.Conv1d(2, 4, 4, padding=3, dilation=2),
        nn.BatchNorm1d(4),
        nn.Tanh(),
        nn.MaxPool1d(3, stride=2, padding=1),
        nn.Conv1d(4, 4, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.AvgPool1d(3, stride=1, padding=1),
        nn.AdaptiveMaxPool1d(1),
        nn.Flatten(),
        nn.Linear(4, 5),
        nn.BatchNorm1d(5),
        nn.ReLU(),
        features=5,
    ),
    "dilated pool": lambda: _stack(
        nn.Conv1d(2, 4, 3),
        nn.MaxPool1d(2, stride=1, dilation=3),
        nn.AdaptiveAvgPool1d(1),
        nn.Flatten(),
        features=4,
    ),
    "odds": Odds,
}


def _family(family: str) -> nn.Module:
    return build(ModelSpec(family=family, width=4), channels=2, classes=CLASSES, length=LENGTH)


def _ready(model: nn.Module) -> nn.Module:
    """Give every batch norm statistics, and return the network as a file would hold it."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d):
            nn.init.uniform_(module.running_mean, -0.1, 0.1)
            nn.init.uniform_(module.running_var, 0.2, 1.0)
            nn.init.uniform_(module.weight, 0.5, 1.5)
    return model.eval().requires_grad_(False)


def _slow(model, series, level, starts, width):
    """One copy at a time, written out."""
    found = []
    for index, start in enumerate(starts.tolist()):
        copies = series.clone()
        copies[:, :, start : start + width] = level[:, :, index, None]
        found.append(model(copies) - model(series))
    return torch.stack(found, dim=1)


def _case(width: int, stride: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    plan = PerturbationPlan(length=LENGTH, width=width, stride=stride)
    starts = torch.from_numpy(plan.starts)
    return starts, torch.randn(3, 2, LENGTH), torch.randn(3, 2, len(starts))


@pytest.mark.parametrize(("width", "stride"), PLANS)
@pytest.mark.parametrize("name", [*NETWORKS, *(f for f in FAMILIES if f != "lstm")])
@torch.no_grad()
def test_followed_changes_are_those_of_the_copies(name, width, stride):
    """Every layer, windows at both borders, widths from a step to the series."""
    torch.manual_seed(0)
    model = _ready(NETWORKS[name]() if name in NETWORKS else _family(name))
    starts, series, level = _case(width, stride)
    expected = _slow(model, series, level, starts, width)
    clean = model(series)

    logits, changes = FollowedChanges(model, series[:1], starts, width)(series, level)

    assert expected.abs().amax() > 1e-3  # there is something to agree on
    torch.testing.assert_close(logits, clean, rtol=0, atol=1e-6)
    torch.testing.assert_close(changes, expected, rtol=0, atol=2e-6)


@pytest.mark.parametrize("family", ["lstm", "fcn"])
@torch.no_grad()
def test_copies_follow_the_plan(family):
    """The general form, also with one level for all windows."""
    torch.manual_seed(0)
    model = _ready(_family(family))
    starts, series, level = _case(5, 3)
    copies = PerturbedCopies(model, LENGTH, starts, 5)

    logits, changes = copies(series, level)
    _, shared = copies(series, level[:, :, :1])

    torch.testing.assert_close(logits, model(series), rtol=0, atol=1e-6)
    torch.testing.assert_close(changes, _slow(model, series, level, starts, 5), rtol=0, atol=2e-6)
    same = level[:, :, :1].expand_as(level)
    torch.testing.assert_close(shared, _slow(model, series, same, starts, 5), rtol=0, atol=2e-6)


@torch.no_grad()
def test_a_layer_as_long_as_its_region():
    """A region that grows to exactly the layer's length may still begin before it."""
    torch.manual_seed(0)
    model = _ready(
        nn.Sequential(
            *(nn.Conv1d(1, 2, 7, padding=3), nn.ReLU(), nn.Conv1d(2, 2, 3, padding=1), nn.ReLU()),
            *(nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(2, CLASSES)),
        )
    )
    starts, series, level = torch.arange(7), torch.randn(2, 1, 10), torch.randn(2, 1, 7)

    _, changes = FollowedChanges(model, series, starts, 4)(series, level)

    torch.testing.assert_close(changes, _slow(model, series, level, starts, 4), rtol=0, atol=2e-6)


def test_saving_falls_with_the_width_of_the_windows():
    """It is what decides the form: a window as wide as the series saves nothing."""
    savings = []
    for width in (2, 8, LENGTH):
        starts, series, _ = _case(width, 1)
        savings.append(FollowedChanges(_ready(_family("fcn")), series, starts, width).saving)

    assert savings[0] > savings[1] > savings[2] == 1.0


def test_a_recurrent_network_is_not_followed():
    starts, series, _ = _case(5, 3)

    with pytest.raises(UnsupportedModule, match="cannot follow changes through LastState"):
        FollowedChanges(_ready(_family("lstm")), series, starts, 5)


def test_a_network_that_cannot_be_recorded_is_not_followed():
    class Choosing(nn.Module):
        def forward(self, x):
            return x.mean(dim=2) if x.sum() > 0 else -x.mean(dim=2)

    starts, series, _ = _case(5, 3)

    with pytest.raises(UnsupportedModule, match="Choosing cannot be traced"):
        FollowedChanges(Choosing(), series, starts, 5)


@pytest.mark.parametrize("temperature", [1.0, 8.0, 40.0])
@pytest.mark.parametrize("size", [1e-3, 0.3, 1.0, 8.0, 30.0, 1000.0])
def test_scores_are_exact_whatever_the_size_of_the_changes(size, temperature, rng):
    """To float32's rounding, from scores where plain terms would cancel to those of hundreds."""
    logits = rng.normal(size=(4, 5)) * 3
    changes = rng.normal(size=(4, 9, 5)) * size
    logits, changes = logits.astype(np.float32), changes.astype(np.float32)
    exact = logits.astype(np.float64), changes.astype(np.float64)
    expected = kernels.window_saliency(
        exact[0], exact[0][:, None] + exact[1], temperature=temperature
    )

    found = window_scores(
        torch.from_numpy(logits), torch.from_numpy(changes), temperature=temperature
    ).numpy()

    assert (found >= 0).all()
    np.testing.assert_allclose(found, expected, rtol=5e-5, atol=1e-6 * expected.max())


def test_log_softmax_alone_is_not_exact(rng):
    """The test above can fail: the difference of two float32 log-softmaxes is mostly rounding."""
    logits = torch.from_numpy(rng.normal(size=(4, 5)).astype(np.float32))
    changes = torch.from_numpy(rng.normal(size=(4, 9, 5)).astype(np.float32)) * 1e-3
    log_p = (logits / 8).log_softmax(-1)[:, None]
    log_q = ((logits[:, None] + changes) / 8).log_softmax(-1)

    naive = (log_p.exp() * (log_p - log_q)).sum(-1) * 64

    exact = window_scores(logits, changes, temperature=8.0)
    assert ((naive - exact).abs() / exact).max() > 0.1


def test_no_change_scores_nothing():
    scores = window_scores(torch.randn(2, 3), torch.zeros(2, 4, 3), temperature=8.0)

    assert not scores.any()
