"""Exported students and the real series they are checked with."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from aeon.datasets import load_gunpoint
from torch import nn

from edgedistill.distill.export import export
from edgedistill.models import ModelSpec, build

LENGTH = 60

STUDENTS = {
    "fcn": ModelSpec(family="fcn", width=16),
    "inception": ModelSpec(family="inception", width=4, depth=2),
    "lite": ModelSpec(family="lite", width=4),
    "lstm": ModelSpec(family="lstm", width=24, depth=1),
}


@pytest.fixture(scope="session")
def series() -> np.ndarray:
    """Real series of one channel, (40, 1, 60), z-normalized as the set brings them."""
    found, _ = load_gunpoint(split="train")
    return found[:40, :, :LENGTH].astype(np.float32)


@pytest.fixture(scope="session")
def student(tmp_path_factory, series) -> Callable[[str], Path]:
    """Return the exported file of a student by its family; exported once a session."""
    folder = tmp_path_factory.mktemp("students")

    @cache
    def exported(family: str) -> Path:
        torch.manual_seed(0)
        model = build(STUDENTS[family], channels=1, classes=2, length=LENGTH)
        _settle(model, series)
        path = folder / f"{family}.onnx"
        export(model, path, series)
        return path

    return exported


def _settle(model: nn.Module, series: np.ndarray) -> None:
    """Give batch norms statistics of the data, so that folding them has something to do."""
    model.train()
    with torch.no_grad():
        for _ in range(5):
            model(torch.from_numpy(series))
