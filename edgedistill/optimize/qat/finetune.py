"""Recovery: a short training in 8 bits, from the student's weights, towards answers and reasons."""

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
    """Return a float model whose weights have learned to be rounded.

    Its forward passes are those of the 8-bit model, rounding included, so the objective sees what
    8 bits do; the weights that learn are float. Norms are folded before and stay as they are.

    Args:
        model: folded and stripped.
        calibration: series that the ranges of activations are read off, (N, C, T).
        terms: what is minimized; they may ask about windows, but not about layers.
        data: series, labels, and the rows to learn from and to judge on.
        config: epochs and optimizer.
        seed: of the order of series.
        method: how ranges are read.
        keep: names of nodes that stay float.
        observe: collects what the model's values are on the series, or knows it.
        outputs: where the checkpoint goes.
        on_epoch: called after every epoch.

    Raises:
        ModelError: the model has an LSTM or an operator that cannot be trained in 8 bits; or the
            loss is no longer a number.
    """
    twin = QatModel(model, ranges(observe(model, calibration), method), keep)
    fit(twin, terms, data, config, seed=seed, outputs=outputs, on_epoch=on_epoch)
    return twin.to_onnx()
