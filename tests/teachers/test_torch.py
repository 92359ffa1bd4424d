"""Torch modules as teachers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from edgedistill.errors import ModelError, ShapeError
from edgedistill.models import ModelSpec, build
from edgedistill.teachers import TorchClassifier
from edgedistill.teachers import torch as network_module


@pytest.fixture
def module() -> nn.Module:
    torch.manual_seed(0)
    return build(ModelSpec(family="fcn", width=2), channels=2, classes=3, length=10)


def test_logits_are_those_of_the_module_in_evaluation_mode(module, rng):
    x = rng.normal(size=(4, 2, 10)).astype(np.float32)
    teacher = TorchClassifier(module, classes=3, name="fcn")
    module.train()

    logits = teacher.logits(x)

    with torch.no_grad():
        expected = module.eval()(torch.from_numpy(x)).numpy()
    np.testing.assert_array_equal(logits, expected)
    assert logits.dtype == np.float32
    assert teacher.module is module
    assert teacher.can_explain


def test_batches_change_nothing(module, rng, monkeypatch):
    x = rng.normal(size=(5, 2, 10)).astype(np.float32)
    teacher = TorchClassifier(module, classes=3)
    whole = teacher.logits(x)

    monkeypatch.setattr(network_module, "_BATCH", 2)

    np.testing.assert_allclose(teacher.logits(x), whole, atol=1e-6)


def test_series_get_the_precision_of_the_module(module, rng):
    teacher = TorchClassifier(module.double(), classes=3)

    assert teacher.logits(rng.normal(size=(2, 2, 10)).astype(np.float32)).dtype == np.float32


def test_module_without_parameters_can_teach():
    class Halves(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.reshape(len(x), 2, -1).mean(dim=2)

    logits = TorchClassifier(Halves(), classes=2).logits(np.float32([[[1, 1, 3, 3]]]))

    np.testing.assert_array_equal(logits, [[1, 3]])


def test_series_of_another_rank_are_refused(module):
    with pytest.raises(ShapeError, match=r"\(N, C, T\), got \(4, 10\)"):
        TorchClassifier(module, classes=3).logits(np.zeros((4, 10), np.float32))


def test_no_series_is_refused(module):
    with pytest.raises(ShapeError, match=r"at least one entry"):
        TorchClassifier(module, classes=3).logits(np.zeros((0, 2, 10), np.float32))


def test_wrong_number_of_classes_is_refused(module):
    with pytest.raises(ModelError, match=r"shape \(4, 3\) for 4 series; the data set has 2"):
        TorchClassifier(module, classes=2).logits(np.zeros((4, 2, 10), np.float32))


def test_logits_that_are_not_finite_are_refused(module):
    with torch.no_grad():
        next(module.parameters()).fill_(float("nan"))

    with pytest.raises(ModelError, match="NaN or infinite logits for 4 of 4 series"):
        TorchClassifier(module, classes=3).logits(np.zeros((4, 2, 10), np.float32))


def test_output_that_is_no_tensor_is_refused():
    class Pair(nn.Module):
        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return x, x

    with pytest.raises(ModelError, match="gives a tuple"):
        TorchClassifier(Pair(), classes=2).logits(np.zeros((1, 1, 2), np.float32))
