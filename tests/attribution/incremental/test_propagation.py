"""Following what windows change, against running every perturbed copy through the whole network."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn

from edgedistill.attribution import perturb
from edgedistill.attribution.incremental.layers import Conv, Scale, UnsupportedModule
from edgedistill.attribution.incremental.propagation import IncrementalModel, record
from edgedistill.attribution.incremental.tracing import follow, trace
from edgedistill.evaluation import metrics
from edgedistill.models import FAMILIES, ModelSpec, build

pytestmark = pytest.mark.slow

WIDTH, LENGTH = 4, 60


def _network(family: str, channels: int, length: int = LENGTH, dtype=torch.float64) -> nn.Module:
    """A network whose batch norms have seen something."""
    torch.manual_seed(0)
    spec = ModelSpec(family=family, width=4)
    model = build(spec, channels=channels, classes=3, length=length).eval().to(dtype)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d):
            nn.init.uniform_(module.running_mean, -0.1, 0.1)
            nn.init.uniform_(module.running_var, 0.2, 1.0)
            nn.init.uniform_(module.weight, 0.5, 1.5)
    return model


def _windows(kind: str, samples: int, length: int, width: int) -> torch.Tensor:
    last = length - width
    if kind == "own":  # each series has its own, both borders among them
        starts = torch.randint(0, last + 1, (samples, 7))
        starts[:, 0], starts[:, 1] = 0, last
        return starts
    step = {"every": 1, "third": 3}[kind]
    return torch.cat([torch.arange(0, last, step), torch.tensor([last])])[None]


def _slow(model, series, starts, patches):
    """One copy at a time, with nothing shared."""
    copies = perturb(series, starts.expand(len(series), -1), patches)
    rows = [model(copies[:, w]) - model(series) for w in range(copies.shape[1])]
    return torch.stack(rows, dim=1)


@pytest.mark.parametrize("kind", ["every", "third", "own"])
@pytest.mark.parametrize("channels", [1, 3, 12])
@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_every_family_agrees_with_the_full_pass(family, channels, kind):
    """To float64's rounding: windows at both borders, shared and of one's own."""
    model = _network(family, channels)
    series = torch.randn(3, channels, LENGTH, dtype=torch.float64)
    starts = _windows(kind, 3, LENGTH, WIDTH)
    patches = torch.randn(3, starts.shape[1], channels, WIDTH, dtype=torch.float64)

    answer = IncrementalModel(model, series, method="incremental").changes(starts, patches)

    expected = _slow(model, series, starts, patches)
    assert expected.abs().amax() > 1e-3  # there is something to agree on
    torch.testing.assert_close(answer.changes, expected, rtol=0, atol=1e-12)


@st.composite
def _architectures(draw):
    """A random convolutional network with shortcuts, pools, strides, dilations and groups."""
    channels = draw(st.integers(1, 12))
    layers: list[nn.Module] = []
    width = channels
    for _ in range(draw(st.integers(1, 3))):
        groups = draw(st.sampled_from([1, 1, 2]))
        out = 2 * draw(st.integers(1, 3))
        groups = groups if width % groups == 0 else 1
        conv = nn.Conv1d(
            width,
            out,
            draw(st.integers(1, 5)),
            stride=draw(st.integers(1, 2)),
            padding=draw(st.integers(0, 4)),
            dilation=draw(st.integers(1, 3)),
            groups=groups,
        )
        layers += [conv, nn.BatchNorm1d(out), draw(st.sampled_from(_ACTIVATIONS))()]
        pool = draw(st.sampled_from(_POOLS))
        layers += [] if pool is None else [pool()]
        width = out
    ends = draw(st.sampled_from(["mean", "max"]))
    layers.append(nn.AdaptiveAvgPool1d(1) if ends == "mean" else nn.AdaptiveMaxPool1d(1))
    return channels, nn.Sequential(*layers, nn.Flatten(), nn.Linear(width, 3))


_ACTIVATIONS = (nn.ReLU, nn.GELU, nn.Tanh, lambda: nn.ReLU(inplace=True))
_POOLS = (
    None,
    lambda: nn.MaxPool1d(3, stride=1, padding=1),
    lambda: nn.MaxPool1d(2),
    lambda: nn.AvgPool1d(3, stride=2, padding=1),
)


def _fits(model, series):
    """Strides may leave a series shorter than the next kernel; torch refuses such a network."""
    try:
        model(series)
    except RuntimeError:
        return False
    return True


@settings(max_examples=40, deadline=None)
@given(_architectures(), st.integers(0, 2**16), st.integers(1, 9))
@torch.no_grad()
def test_random_networks_agree_with_the_full_pass(architecture, seed, width):
    """Whatever is stacked: paddings, strides, dilations, groups, pools, activations."""
    channels, model = architecture
    torch.manual_seed(seed)
    model = model.double().eval()
    series = torch.randn(2, channels, 70, dtype=torch.float64)
    assume(_fits(model, series))
    starts = _windows("own", 2, 70, width)
    patches = torch.randn(2, starts.shape[1], channels, width, dtype=torch.float64)

    answer = IncrementalModel(model, series, method="incremental").changes(starts, patches)

    expected = _slow(model, series, starts, patches)
    torch.testing.assert_close(answer.changes, expected, rtol=0, atol=1e-12)


@settings(max_examples=25, deadline=None)
@given(_architectures(), st.integers(0, 2**16), st.integers(1, 9))
@torch.no_grad()
def test_random_networks_in_float32(architecture, seed, width):
    """Masked logits as the naive pass gives them, and windows in the true order."""
    channels, model = architecture
    torch.manual_seed(seed)
    model = model.eval()
    series = torch.randn(2, channels, 70)
    assume(_fits(model, series))
    starts = _windows("every", 2, 70, width)
    patches = torch.randn(2, starts.shape[1], channels, width)

    answer = IncrementalModel(model, series, method="incremental").changes(starts, patches)

    naive = _slow(model, series, starts, patches)
    torch.testing.assert_close(answer.changes, naive, rtol=0, atol=1e-5)
    truth = _slow(copy.deepcopy(model).double(), series.double(), starts, patches.double())
    ours, true = (changes[..., 0].double().numpy() for changes in (answer.changes, truth))
    told_apart = np.ptp(true, axis=1) > 1e-3  # else their order is float32's rounding
    ours, true = (np.round(changes, 5) for changes in (ours, true))  # so is that of near ties
    assert (metrics.spearman(ours, true)[told_apart] >= 0.999).all()


class _ReadsAgain(nn.Module):
    """The shortcut reads what the in-place ReLU has left."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv1d(1, 2, 3), nn.Conv1d(2, 2, 3, padding=1)
        self.activation = nn.ReLU(inplace=True)

    def forward(self, x):
        x = self.first(x)
        return (self.second(self.activation(x)) + x).mean(dim=2)


@torch.no_grad()
def test_a_value_that_is_read_after_it_was_overwritten():
    """The graph names the value that is no more; so the whole network is run."""
    model, series = _ReadsAgain(), torch.randn(2, 1, 30)

    asked = IncrementalModel(model, series)
    answer = asked.changes(torch.arange(30)[None], torch.zeros(2, 30, 1, 1))

    torch.testing.assert_close(asked.logits, model(series))
    assert answer.method == "full"
    assert "overwritten" in answer.reason


@pytest.mark.parametrize("length", range(4, 12))
@torch.no_grad()
def test_regions_about_as_long_as_the_series(length):
    """One step shorter, as long, one longer: the last two are the whole layer."""
    model = nn.Sequential(
        nn.Conv1d(1, 3, 4, padding=2),
        nn.ReLU(),
        nn.Conv1d(3, 2, 3, padding=1, dilation=2),
        nn.Tanh(),
        nn.AdaptiveAvgPool1d(1),
        nn.Flatten(),
    ).double()
    series = torch.randn(2, 1, length, dtype=torch.float64)
    starts = torch.arange(length)[None]
    patches = torch.randn(2, length, 1, 1, dtype=torch.float64)

    answer = IncrementalModel(model, series, method="incremental").changes(starts, patches)

    expected = _slow(model, series, starts, patches)
    torch.testing.assert_close(answer.changes, expected, rtol=0, atol=1e-12)


@torch.no_grad()
def test_factors_and_masks_are_folded_away():
    """Batch norm behind convolutions, also behind several side by side, costs no pass."""
    series = torch.zeros(1, 1, LENGTH, dtype=torch.float64)
    for family, norms in {"fcn": 0, "resnet": 1, "inception": 0}.items():  # one in a shortcut
        rules = [step.rule for step in follow(trace(_network(family, 1)), series).steps]

        assert sum(isinstance(rule, Scale) for rule in rules) == norms
        assert any(isinstance(rule, Conv) and not rule.bounded for rule in rules)


@torch.no_grad()
def test_float32_is_closer_to_the_truth_than_the_full_pass():
    """Two large logits are never subtracted."""
    model = _network("fcn", 1, dtype=torch.float32)
    model.head.bias.fill_(100.0)  # large logits, small changes
    series = torch.randn(4, 1, LENGTH)
    starts = _windows("every", 4, LENGTH, 1)
    patches = series.mean(dim=2)[:, None, :, None].expand(-1, starts.shape[1], -1, -1)
    truth = _slow(copy.deepcopy(model).double(), series.double(), starts, patches.double())

    ours = IncrementalModel(model, series, method="incremental").changes(starts, patches).changes
    full = IncrementalModel(model, series, method="full").changes(starts, patches).changes

    error = (ours - truth).abs().max()
    assert error <= 1e-5
    assert error * 10 < (full - truth).abs().max()


@pytest.mark.parametrize("family", ["fcn", "resnet", "inception", "lite"])
def test_gradients_are_those_of_the_full_pass(family):
    """In eval mode, where both define the same function."""
    model = _network(family, 2)
    series = torch.randn(3, 2, LENGTH, dtype=torch.float64)
    starts = _windows("third", 3, LENGTH, WIDTH)
    patches = torch.randn(3, starts.shape[1], 2, WIDTH, dtype=torch.float64)
    found = []
    for method in ("incremental", "full"):
        model.zero_grad()
        asked = IncrementalModel(model, series, method=method)
        asked.changes(starts, patches).changes.square().sum().backward()
        found.append([p.grad.clone() for p in model.parameters() if p.grad is not None])

    for ours, theirs in zip(*found, strict=False):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)


def test_copies_leave_batch_statistics_alone():
    """In training the clean batch normalizes the copies; running statistics see it once."""
    model, twin = _network("fcn", 1).train(), _network("fcn", 1).train()
    series = torch.randn(4, 1, LENGTH, dtype=torch.float64)
    starts = _windows("third", 4, LENGTH, WIDTH)
    patches = 50 * torch.randn(4, starts.shape[1], 1, WIDTH, dtype=torch.float64)

    asked = IncrementalModel(model, series)
    asked.changes(starts, patches)

    torch.testing.assert_close(asked.logits, twin(series))
    for ours, theirs in zip(model.buffers(), twin.buffers(), strict=True):
        torch.testing.assert_close(ours, theirs)


class _Odd(nn.Module):
    """Sorts its series: no rule for that."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(LENGTH, 3)

    def forward(self, x):
        return self.head(x.sort(dim=2).values.mean(dim=1))


class _Branching(nn.Module):
    """Decides by its input, which cannot be recorded."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(1, 3)

    def forward(self, x):
        return self.head(x.mean(dim=2) if x.sum() > 0 else x.amax(dim=2))


@pytest.mark.parametrize(
    ("model", "reason"),
    [(_Odd(), "no rule for sort"), (_Branching(), "cannot be traced")],
    ids=["sort", "branch"],
)
@torch.no_grad()
def test_unsupported_networks_are_run_whole(model, reason):
    """The result is the same, with the reason why."""
    series = torch.randn(3, 1, LENGTH)
    starts = _windows("third", 3, LENGTH, WIDTH)
    patches = torch.randn(3, starts.shape[1], 1, WIDTH)

    answer = IncrementalModel(model, series).changes(starts, patches)

    assert answer.method == "full"
    assert reason in answer.reason
    expected = _slow(model, series, starts, patches)
    torch.testing.assert_close(answer.changes, expected, rtol=1e-4, atol=1e-5)
    with pytest.raises(UnsupportedModule, match=reason):
        IncrementalModel(model, series, method="incremental").changes(starts, patches)


@torch.no_grad()
def test_short_series_are_run_whole():
    """Where the receptive field covers the series, following saves nothing."""
    model = _network("inception", 1, length=20)
    series = torch.randn(2, 1, 20, dtype=torch.float64)
    starts = _windows("every", 2, 20, WIDTH)
    patches = torch.zeros(2, starts.shape[1], 1, WIDTH, dtype=torch.float64)

    answer = IncrementalModel(model, series).changes(starts, patches)

    assert answer.method == "full"
    assert "saves only" in answer.reason
    assert answer.saving < 1.3


@torch.no_grad()
def test_a_small_memory_bound_changes_nothing():
    """One window at a time gives what many give."""
    model = _network("resnet", 2)
    series = torch.randn(3, 2, LENGTH, dtype=torch.float64)
    starts = _windows("every", 3, LENGTH, WIDTH)
    patches = torch.randn(3, starts.shape[1], 2, WIDTH, dtype=torch.float64)

    for method in ("incremental", "full"):
        many = IncrementalModel(model, series, method=method).changes(starts, patches).changes
        one = (
            IncrementalModel(model, series, method=method, memory_bytes=1)
            .changes(starts, patches)
            .changes
        )
        torch.testing.assert_close(one, many, rtol=0, atol=1e-12)


@torch.no_grad()
def test_a_recorded_graph_follows_new_weights():
    """Recorded once, run after every step of training."""
    model = _network("fcn", 1)
    graph = record(model)
    model.head.weight.mul_(3.0)
    series = torch.randn(2, 1, LENGTH, dtype=torch.float64)
    starts = _windows("third", 2, LENGTH, WIDTH)
    patches = torch.randn(2, starts.shape[1], 1, WIDTH, dtype=torch.float64)

    answer = IncrementalModel(model, series, graph=graph).changes(starts, patches)

    expected = _slow(model, series, starts, patches)
    torch.testing.assert_close(answer.changes, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU])
@torch.no_grad()
def test_recurrent_copies_start_from_the_clean_state(kind):
    """Two layers, windows of one's own; half the steps at most, on average."""

    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.states = kind(2, 5, num_layers=2, batch_first=True)
            self.head = nn.Linear(5, 3)

        def forward(self, x):
            return self.head(self.states(x.permute(0, 2, 1))[0][:, -1, :])

    model = Recurrent().double().eval()
    series = torch.randn(3, 2, LENGTH, dtype=torch.float64)
    starts = _windows("every", 3, LENGTH, WIDTH)
    patches = torch.randn(3, starts.shape[1], 2, WIDTH, dtype=torch.float64)

    answer = IncrementalModel(model, series, method="incremental").changes(starts, patches)

    expected = _slow(model, series, starts, patches)
    torch.testing.assert_close(answer.changes, expected, rtol=0, atol=1e-12)
    assert 1.8 < answer.saving < 2.2


class _Last(nn.Module):
    def __init__(self, states: nn.Module) -> None:
        super().__init__()
        self.states = states

    def forward(self, x):
        return self.states(x.transpose(1, 2))[0][:, -1]


@torch.no_grad()
def test_recurrent_networks_are_followed_where_it_pays():
    """With next to nothing to compute, loading the compiled cell would take longer."""
    series = torch.randn(4, 1, LENGTH)
    everywhere = _windows("every", 4, LENGTH, WIDTH)
    patches = torch.zeros(4, everywhere.shape[1], 1, WIDTH)
    small, large = (nn.LSTM(1, size, batch_first=True).eval() for size in (4, 100))

    few = IncrementalModel(_Last(small), series).changes(everywhere, patches)
    many = IncrementalModel(_Last(large), series).changes(everywhere, patches)

    assert (few.method, few.reason) == ("full", "there is little to compute")
    assert many.method == "incremental"
    expected = _slow(_Last(large), series, everywhere, patches)
    torch.testing.assert_close(many.changes, expected, rtol=0, atol=1e-6)
