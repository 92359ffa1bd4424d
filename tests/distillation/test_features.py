"""Features: layers by name, recorded once, and of frozen teachers."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from edgedistill.distillation.features import (
    EMBEDDING,
    TeacherFeatures,
    default_layers,
    embedding_size,
    layer_channels,
    record_features,
)
from edgedistill.distillation.objectives import Windows
from edgedistill.errors import ConfigError
from edgedistill.models import FAMILIES, ModelSpec, build
from edgedistill.training.multi_output_student import MultiOutputStudent

LENGTH = 24


def network(family: str) -> nn.Module:
    torch.manual_seed(0)
    return build(ModelSpec(family=family, width=4), channels=2, classes=3, length=LENGTH)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_has_layers_and_an_embedding(family):
    model, series = network(family), torch.randn(2, 2, LENGTH)

    found = layer_channels(model, series)
    hint, last = default_layers(found)

    names = list(found)
    assert names.index(hint) <= names.index(last) == len(names) - 1
    assert embedding_size(model, series) == found[last]
    assert model.training  # left as it was


def test_recorded_features_are_the_outputs_themselves():
    model, series = network("fcn").eval(), torch.randn(2, 2, LENGTH)

    with record_features(model, ["blocks.1", EMBEDDING]) as found:
        logits = model(series)

    torch.testing.assert_close(found["blocks.1"], model.blocks[:2](series))
    torch.testing.assert_close(model.head(found[EMBEDDING]), logits)


def test_first_forward_counts_and_hooks_are_removed():
    """Perturbed copies may follow the series through the same layers."""
    model = network("fcn").eval()
    series, other = torch.randn(2, 2, LENGTH), torch.randn(5, 2, LENGTH)

    with record_features(model, ["blocks.1"]) as found:
        model(series)
        model(other)
    kept = found["blocks.1"]
    model(other)

    assert len(kept) == 2
    assert found["blocks.1"] is kept


@pytest.mark.parametrize("family", ["fcn", "lstm"])
def test_student_returns_its_layers_beside_its_logits(family):
    """Followed or run whole: layers give what they give for the series themselves."""
    model, series = network(family), torch.randn(3, 2, LENGTH)
    model.eval()
    _, last = default_layers(layer_channels(model, series))
    windows = Windows(torch.tensor([[0, 5]]), torch.zeros(3, 2, 2, 4))

    logits, changes, found, _ = MultiOutputStudent(model)(
        series, [windows, None], [last, EMBEDDING]
    )

    with record_features(model, [last, EMBEDDING]) as expected:
        torch.testing.assert_close(logits, model(series))
    torch.testing.assert_close(dict(found), expected)
    assert [None if c is None else c.shape for c in changes] == [(3, 2, 3), None]
    assert found[last].requires_grad


def test_teacher_is_frozen():
    model = network("fcn").train()

    found = TeacherFeatures(model, ["blocks.1"])(torch.randn(2, 2, LENGTH))

    assert not model.training
    assert not found["blocks.1"].requires_grad
    assert not any(p.requires_grad for p in model.parameters())


def test_unknown_layer_is_refused():
    with (
        pytest.raises(ConfigError, match=r"no layer 'blocks.99'.*blocks.1"),
        record_features(network("fcn"), ["blocks.99"]),
    ):
        pass


def test_network_without_a_linear_layer_or_layers_over_time_is_refused():
    bare = nn.Sequential(nn.AdaptiveAvgPool1d(1), nn.Flatten())

    with (
        pytest.raises(ConfigError, match="has no linear layer"),
        record_features(bare, [EMBEDDING]),
    ):
        pass
    with pytest.raises(ConfigError, match="no layer with an output over time"):
        default_layers({})
