"""Networks that are chains, and the changes by windows in them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from edgedistill.attribution.functional import perturb
from edgedistill.attribution.incremental import chain as module
from edgedistill.attribution.incremental.chain import as_chain, changes, is_faster_compiled
from edgedistill.attribution.incremental.tracing import follow, trace
from edgedistill.models.families import FCN, SameConv1d

pytestmark = pytest.mark.slow


class Pooled(nn.Module):
    """Some layers, the mean over time, a linear head."""

    def __init__(self, *layers: nn.Module, filters: int = 6) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)
        self.head = nn.Linear(filters, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layers(x).mean(dim=2))


class Written(nn.Module):
    """A chain that calls functions and methods."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv1d(2, 5, 4), SameConv1d(5, 6, 4, dilation=2)
        self.head = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = (self.first(functional.pad(x, (3, 1))) * 0.5 + 0.1).relu()
        return self.head(self.second(x).relu().mean(2))


def trained(model: nn.Module, channels: int = 2) -> nn.Module:
    """Give batch norms statistics that are not 0 and 1."""
    torch.manual_seed(0)
    model.train()(torch.randn(16, channels, 40) * 2 + 1)
    return model.eval()


def conv(channels: int, filters: int, **options: int) -> nn.Conv1d:
    return nn.Conv1d(channels, filters, 3, **options)


CHAINS = {
    "fcn": lambda: FCN(channels=2, classes=3, width=6, depth=3),
    "written": Written,
    "dropout": lambda: Pooled(conv(2, 6), nn.ReLU(), nn.Dropout(), nn.Identity()),
    "pool": lambda: nn.Sequential(
        conv(2, 6), nn.ReLU(), nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(6, 3)
    ),
}
OTHERS = {
    "stride": lambda: Pooled(conv(2, 6, stride=2), nn.ReLU()),
    "groups": lambda: Pooled(conv(2, 6, groups=2), nn.ReLU()),
    "activation": lambda: Pooled(conv(2, 6), nn.ELU()),
    "no activation": lambda: Pooled(conv(2, 6)),
    "two activations": lambda: Pooled(conv(2, 6), nn.ReLU(), nn.ReLU()),
    "norm after": lambda: Pooled(conv(2, 6), nn.ReLU(), nn.BatchNorm1d(6)),
    "zeros after": lambda: Pooled(conv(2, 6), nn.ReLU(), nn.ConstantPad1d(1, 0.0)),
    "pool": lambda: Pooled(conv(2, 6), nn.ReLU(), nn.MaxPool1d(2)),
    "flat": lambda: nn.Sequential(conv(2, 6), nn.ReLU(), nn.Flatten(), nn.Linear(228, 3)),
    "no head": lambda: nn.Sequential(conv(2, 6), nn.ReLU(), nn.AdaptiveAvgPool1d(1), nn.Flatten()),
    "no layer": lambda: Pooled(filters=2),
    "wide": lambda: Pooled(conv(2, 60), nn.ReLU(), conv(60, 60), nn.ReLU(), filters=60),
}


@torch.no_grad()
@pytest.mark.parametrize("name", CHAINS)
@pytest.mark.parametrize("width", [1, 7, 40])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_changes_are_those_of_perturbed_copies(name, width, dtype):
    model = trained(CHAINS[name]()).to(dtype)
    series = torch.randn(3, 2, 40, dtype=dtype)
    starts = torch.arange(41 - width)[None]
    patches = torch.randn(3, 41 - width, 2, width, dtype=dtype)

    chain = as_chain(follow(trace(model), series))
    assert chain is not None
    found = changes(chain, series, starts, patches)

    copies = perturb(series, starts.expand(3, -1), patches)
    expected = model(copies.flatten(0, 1)).unflatten(0, (3, -1)) - model(series)[:, None]
    tolerance = 1e-12 if dtype == torch.float64 else 1e-5
    torch.testing.assert_close(found, expected, rtol=0, atol=tolerance)


@torch.no_grad()
@pytest.mark.parametrize("name", OTHERS)
def test_other_networks_are_no_chain(name):
    steps = follow(trace(trained(OTHERS[name]())), torch.randn(3, 2, 40))  # it is understood

    assert as_chain(steps) is None


def test_a_chain_with_gradients_is_left_to_autograd():
    model, series = trained(CHAINS["fcn"]()), torch.randn(3, 2, 40)

    assert as_chain(follow(trace(model), series)) is None

    model.requires_grad_(False)
    assert as_chain(follow(trace(model), series)) is not None
    assert as_chain(follow(trace(model), series.requires_grad_())) is None


@torch.no_grad()
def test_half_precision_is_no_chain():
    model, series = trained(CHAINS["fcn"]()).bfloat16(), torch.randn(3, 2, 40).bfloat16()

    assert as_chain(follow(trace(model), series)) is None


@torch.no_grad()
def test_patches_that_repeat_are_copied_a_part_at_a_time(monkeypatch):
    """One baseline for all windows costs no memory before, and little in the loop."""
    model, series = trained(CHAINS["fcn"]()), torch.randn(3, 2, 40)
    chain = as_chain(follow(trace(model), series))
    starts, baseline = torch.arange(36)[None], torch.zeros(1, 1, 2, 1).expand(3, 36, 2, 5)
    assert chain is not None
    expected = changes(chain, series, starts, baseline.contiguous())

    monkeypatch.setattr(module, "_COPY_BYTES", 1000)
    parts = changes(chain, series, starts, baseline)

    torch.testing.assert_close(parts, expected, rtol=0, atol=1e-7)


@torch.no_grad()
def test_no_windows_give_no_changes():
    model, series = trained(CHAINS["fcn"]()), torch.randn(3, 2, 40)
    chain = as_chain(follow(trace(model), series))
    assert chain is not None

    found = changes(chain, series, torch.zeros(1, 0, dtype=torch.long), torch.zeros(3, 0, 2, 4))

    assert found.shape == (3, 0, 3)


def test_it_pays_for_compact_chains_only():
    assert is_faster_compiled([1, 12, 24, 12])
    assert not is_faster_compiled([1, 128, 256, 128])
