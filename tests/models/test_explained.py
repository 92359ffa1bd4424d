"""A network that also predicts a map: what it adds, what it costs, what stays as it was."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn

from edgedistill.attribution import perturb
from edgedistill.attribution.incremental.propagation import IncrementalModel
from edgedistill.models import (
    FAMILIES,
    ModelSpec,
    SelfExplainingNetwork,
    WithExplanation,
    build,
    cost,
)


def explained(family: str = "fcn", *, length: int = 21, **changes: int) -> SelfExplainingNetwork:
    spec = ModelSpec(family=family, width=4, explained=True)
    torch.manual_seed(0)
    model = build(spec, channels=2, classes=3, length=length, **changes)
    assert isinstance(model, SelfExplainingNetwork)
    return model


@pytest.mark.parametrize("length", [2, 3, 8, 51])
@pytest.mark.parametrize("family", FAMILIES)
def test_gives_a_logit_a_class_and_a_value_a_step(family, length, rng):
    """Also for lengths that the encoder's strides do not divide."""
    model = explained(family, length=length).eval()
    x = torch.from_numpy(rng.normal(size=(5, 2, length)).astype(np.float32))

    logits, predicted = model.explain(x)

    assert logits.shape == (5, 3)
    assert predicted.shape == (5, length)
    assert torch.equal(model(x), logits)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_head_reads_the_networks_embedding_and_the_codes_mean(family, rng):
    """The same network alone, with its own head, is what it was."""
    model = explained(family).eval()
    alone = build(ModelSpec(family=family, width=4), channels=2, classes=3, length=21).eval()
    alone.load_state_dict(model.network.state_dict(), strict=False)
    heard = []
    alone.get_submodule("head").register_forward_pre_hook(lambda _, given: heard.append(given[0]))
    x = torch.from_numpy(rng.normal(size=(5, 2, 21)).astype(np.float32))

    logits = model(x)

    alone(x)
    code = model.encoder(x)
    assert code.shape == (5, 8, 6)
    fused = np.hstack([heard[0].detach().numpy(), code.detach().numpy().mean(axis=2)])
    weight, bias = (p.detach().numpy() for p in model.head.parameters())
    np.testing.assert_allclose(logits.detach().numpy(), fused @ weight.T + bias, atol=1e-5)


def test_the_map_depends_on_the_whole_series(rng):
    """A step at one end moves the map at the other; without the mean it could not."""
    model = explained(length=200).eval()
    x = torch.from_numpy(rng.normal(size=(1, 2, 200)).astype(np.float32))
    moved = x.clone()
    moved[..., :5] += 3

    first, second = (model.explain(series)[1][0, -1].item() for series in (x, moved))

    assert first != second


@pytest.mark.parametrize("family", FAMILIES)
def test_every_parameter_learns(family):
    """The decoder from the map, all others from the logits."""
    model = explained(family)
    logits, predicted = model.explain(torch.randn(6, 2, 21))

    decoder = {n for n, _ in model.named_parameters() if n.startswith(("mixed.", "refined."))}
    classes = torch.tensor([0, 1, 2, 0, 1, 2])
    nn.functional.cross_entropy(logits, classes).backward(retain_graph=True)
    silent = {n for n, p in model.named_parameters() if p.grad is None}
    predicted.square().sum().backward()

    assert silent == decoder
    assert all(p.grad is not None for p in model.parameters())


@pytest.mark.parametrize("length", [2, 4, 7, 8])
def test_a_batch_of_one_trains_at_any_length(length):
    """Also where four steps made one of the code, of which there is no variance."""
    model = explained(length=length).train()

    logits, predicted = model.explain(torch.randn(1, 2, length))

    assert torch.isfinite(logits).all()
    assert torch.isfinite(predicted).all()


def test_cost_by_hand():
    """The network's own, the encoder at half and a quarter of the steps, and a wider head.

    The map costs only where it is computed.
    """
    model, plain = (
        explained(length=21),
        build(ModelSpec(family="fcn", width=4), channels=2, classes=3, length=21),
    )
    counted, alone = (cost(m, channels=2, length=21) for m in (model, plain))
    whole = cost(WithExplanation(model), channels=2, length=21)

    encoder = 11 * 8 * 2 * 7 + 6 * 8 * 8 * 5 + 6 * 8 * 8 * 5
    decoder = 6 * 8 * 16 * 5 + 21 * 8 * 8 * 5 + 21 * 8
    norm = 2 * 8
    weights = 8 * 14 + 8 * 40 + 8 * 40 + 8 * 80 + 8 * 40 + 5 * norm + (8 + 1)
    assert counted.macs == alone.macs + encoder + 8 * 3
    assert whole.macs == counted.macs + decoder
    assert counted.parameters == whole.parameters == alone.parameters + weights + 8 * 3
    assert whole.size_bytes == counted.size_bytes


@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_changes_by_windows_are_followed(family, rng):
    """Saliency of its logits is as exact as the network's own."""
    model = copy.deepcopy(explained(family, length=40)).eval().double()
    series = torch.from_numpy(rng.normal(size=(3, 2, 40)))
    starts = torch.tensor([[0, 17, 36]])
    patches = torch.from_numpy(rng.normal(size=(3, 3, 2, 4)))

    answer = IncrementalModel(model, series, method="incremental").changes(starts, patches)

    copies = perturb(series, starts.expand(3, -1), patches)
    expected = torch.stack([model(copies[:, w]) - model(series) for w in range(3)], dim=1)
    assert answer.method == "incremental"
    torch.testing.assert_close(answer.changes, expected, rtol=0, atol=1e-12)
