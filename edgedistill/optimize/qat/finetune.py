"""Finetuning of INT8: a short training in 8 bits, from the weights of the student."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import onnx

from edgedistill.distillation.context import TrainingData
from edgedistill.distillation.objectives import WeightedObjective
from edgedistill.io.arrays import Floats
from edgedistill.optimize.qat.model import QatModel
from edgedistill.optimize.quantization.calibration import Method, Observe, observe, ranges
from edgedistill.training.config import Epoch, FitConfig, RunOutputs
from edgedistill.training.fit import fit


def recover(
    model: onnx.ModelProto,
    calibration: Floats,
    terms: Sequence[WeightedObjective],
    data: TrainingData,
    config: FitConfig,
    *,
    seed: int,
    method: Method = "minmax",
    keep: frozenset[str] = frozenset(),
    observe: Observe = observe,
    outputs: RunOutputs | None = None,
    on_epoch: Callable[[Epoch], None] | None = None,
) -> onnx.ModelProto:
    """Train a model in 8 bits; return a float model whose weights are fit to be rounded.

    Its forward passes are those of the 8-bit model, rounding included, so the objective sees what
    8 bits do; the weights that learn are float. Norms are folded before and stay as they are.

    Args:
        model: folded and stripped model.
        calibration: series that calibrate the ranges of activations, (N, C, T).
        terms: objectives to minimize; they may use windows, but not layers.
        data: series, labels, and the rows for training and for validation.
        config: epochs and optimizer.
        seed: seed of the shuffling.
        method: method of calibration.
        keep: names of nodes that stay float.
        observe: collects the histograms of the model's values, or returns cached ones.
        outputs: files for the checkpoint.
        on_epoch: called after every epoch.

    Raises:
        ModelError: the model has an LSTM or an operator that cannot be trained in 8 bits; or the
            loss is no longer a number.
    """
    qat = QatModel(model, ranges(observe(model, calibration), method), keep)
    fit(qat, terms, data, config, seed=seed, outputs=outputs, on_epoch=on_epoch)
    return qat.to_onnx()
