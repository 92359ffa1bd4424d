"""A short training in 8 bits brings an INT8 model nearer to its teacher."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from aeon.datasets import load_gunpoint
from torch.nn import functional

from edgedistill.distillation.context import TrainingData
from edgedistill.distillation.objectives import KD, TSDMaps, WeightedObjective
from edgedistill.errors import ModelError
from edgedistill.evaluation.metrics import kl_divergence, pearson
from edgedistill.export.export import export
from edgedistill.models import ModelSpec, build
from edgedistill.optimize.execution import logits
from edgedistill.optimize.passes.fold import fold
from edgedistill.optimize.passes.graph import load, strip
from edgedistill.optimize.qat.finetune import recover
from edgedistill.optimize.quantization.int8 import to_int8
from edgedistill.saliency.occlusion import explain
from edgedistill.saliency.perturbation import default_plan
from edgedistill.training.config import FitConfig

pytestmark = pytest.mark.slow

CONFIG = FitConfig(
    epochs=90, batch_size=8, learning_rate=0.003, select="objective", accelerator="cpu"
)


@pytest.fixture(scope="module")
def plan(series):
    return default_plan(series.shape[2], width=15)


@pytest.fixture(scope="module")
def coarse(series):
    """Calibration with one spike: ranges so wide that few of the 256 levels are used."""
    spiked = series.copy()
    spiked[0, 0, 30] = 60.0
    return spiked


@pytest.fixture(scope="module")
def model(series, tmp_path_factory):
    """A small trained FCN, folded."""
    _, names = load_gunpoint(split="train")
    labels = torch.from_numpy(np.unique(names[: len(series)], return_inverse=True)[1])
    torch.manual_seed(0)
    module = build(ModelSpec(family="fcn", width=4), channels=1, classes=2, length=series.shape[2])
    optimizer = torch.optim.Adam(module.parameters(), lr=0.02)
    for _ in range(60):
        optimizer.zero_grad()
        functional.cross_entropy(module(torch.from_numpy(series)), labels).backward()
        optimizer.step()
    path = tmp_path_factory.mktemp("trained") / "model.onnx"
    export(module.eval(), path, series)
    return strip(fold(load(path)))


@pytest.fixture(scope="module")
def learned(model, series, coarse, plan, tmp_path_factory):
    """The float FCN after training in 8 bits towards its own outputs; and those outputs."""
    path = tmp_path_factory.mktemp("float") / "model.onnx"
    path.write_bytes(model.SerializeToString())
    known = explain(lambda x: logits(path, x), series, plan)
    rows = torch.arange(len(series))
    data = TrainingData(
        series=torch.from_numpy(series),
        labels=torch.from_numpy(known.logits.argmax(axis=1)),
        train=rows[:30],
        validation=rows[30:],
    )
    terms = [
        WeightedObjective(
            objective=KD(torch.from_numpy(known.logits), temperature=1.0), weight=2.0
        ),
        WeightedObjective(objective=TSDMaps(known, plan)),
    ]
    return recover(model, coarse, terms, data, CONFIG, seed=0), known


def test_logits_and_maps_come_nearer_to_the_teacher(learned, model, series, coarse, plan, tmp_path):
    """Of the real INT8 models before and after, under the same calibration."""
    recovered, known = learned
    lost = []
    for name, each in (("before", model), ("after", strip(recovered))):
        path = tmp_path / f"{name}.onnx"
        path.write_bytes(to_int8(each, coarse).SerializeToString())

        said = explain(
            lambda x, path=path: logits(path, x),
            series,
            plan,
            targets=known.logits.argmax(axis=1),
        )

        kl = kl_divergence(known.logits, said.logits).mean()
        lost.append((kl, 1 - pearson(known.signed, said.signed).mean()))
    (kl_before, map_before), (kl_after, map_after) = lost
    assert kl_after < 0.9 * kl_before
    assert map_after < 0.9 * map_before


def test_the_graph_stays_that_of_the_student(learned, model):
    """Only numbers change: it can be folded, quantized and searched like the one before."""
    recovered, _ = learned

    assert [n.op_type for n in recovered.graph.node] == [n.op_type for n in model.graph.node]
    assert recovered.graph.input == model.graph.input
    assert recovered.graph.output == model.graph.output


def test_an_lstm_is_refused(student, series):
    data = TrainingData(
        series=torch.from_numpy(series),
        labels=torch.zeros(len(series), dtype=torch.int64),
        train=torch.arange(30),
        validation=torch.arange(30, 40),
    )

    with pytest.raises(ModelError, match="An LSTM measures the ranges"):
        recover(strip(fold(load(student("lstm")))), series, [], data, CONFIG, seed=0)
