"""Finetuning of INT8: a short training in 8 bits of a student that breaks the contract."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import onnx
import torch

from edgedistill.distillation.context import TrainingData
from edgedistill.distillation.objectives import (
    KD,
    CrossEntropy,
    Objective,
    TSDMaps,
    WeightedObjective,
)
from edgedistill.errors import ModelError
from edgedistill.evaluation.contract import Contract
from edgedistill.io.arrays import Floats
from edgedistill.io.files import whole_file
from edgedistill.optimize.execution import logits
from edgedistill.optimize.mixed_precision.candidates import Candidate
from edgedistill.optimize.mixed_precision.search import Search, rank
from edgedistill.optimize.passes.fold import fold
from edgedistill.optimize.qat.model import QatModel, check_trainable
from edgedistill.optimize.quantization.calibration import Method, Observe, observe, ranges
from edgedistill.optimize.student_file import load_student
from edgedistill.saliency.occlusion import Explanation, explain
from edgedistill.saliency.perturbation import PerturbationPlan
from edgedistill.training.config import Epoch, FitConfig, RunOutputs
from edgedistill.training.fit import fit

RECOVERED_ONNX = "recovered.onnx"
DEFAULT_WEIGHTS = {"cross_entropy": 0.1, "kd": 0.9, "tsd_maps": 2.0}  # of the objectives
DEFAULT_TEMPERATURE = 4.0  # of `kd`


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovery:
    """The settings of a training in 8 bits.

    Attributes:
        data: series for training and for validation.
        targets: logits and maps of those series to learn; None takes the float student's own.
        plan: plan of the maps.
        has_maps: whether the targets have maps to learn.
        training: settings that the student was trained with.
        epochs: epochs of the recovery.
        learning_rate: learning rate of the recovery.
        seed: seed of the shuffling.
        weights: weights of some of the objectives in `DEFAULT_WEIGHTS`.
        temperature: temperature of `kd`.
        always: whether also an INT8 student that keeps the contract is trained.
    """

    data: TrainingData
    targets: Explanation | None
    plan: PerturbationPlan
    has_maps: bool
    training: FitConfig
    epochs: int
    learning_rate: float
    seed: int
    weights: Mapping[str, float] = field(default_factory=dict)
    temperature: float = DEFAULT_TEMPERATURE
    always: bool = False

    @property
    def config(self) -> FitConfig:
        """The settings of the training in 8 bits."""
        return replace(
            self.training,
            epochs=self.epochs,
            learning_rate=self.learning_rate,
            select="objective",
            patience=None,
            freeze_norm_from=None,
        )


def recovery_blocker(
    model: Path, calibration: Floats, search: Search, *, always: bool
) -> str | None:
    """Return the reason why a recovery is not tried, or None if it is.

    Args:
        model: path of the exported student.
        calibration: series of the training set, (N, C, T).
        search: search before.
        always: whether also an INT8 student that keeps the contract is trained.
    """
    if not always and search.all_int8.keeps(search.terms):
        return "plain INT8 keeps the contract"
    try:
        check_trainable(fold(load_student(model, calibration).model))
    except ModelError as error:
        return str(error)
    return None


def finetune_int8(
    model: Path,
    calibration: Floats,
    recovery: Recovery,
    search: Search,
    work: Path,
    *,
    observe: Observe = observe,
    on_epoch: Callable[[Epoch], None] | None = None,
) -> Path:
    """Train a student in 8 bits; return the file of the float student with those weights.

    Args:
        model: path of the exported student.
        calibration: series that set the ranges, (N, C, T).
        recovery: settings of the training.
        search: search before; its plain INT8 model sets the method of calibration.
        work: folder for the checkpoint and the result.
        observe: collects the histograms of the model's values, or returns cached ones.
        on_epoch: called after every epoch.
    """
    finetuned = recover(
        fold(load_student(model, calibration).model),
        calibration,
        _objectives(recovery, _targets(recovery, model)),
        recovery.data,
        recovery.config,
        seed=recovery.seed,
        method=search.all_int8.setting.method or "minmax",
        observe=observe,
        outputs=RunOutputs(checkpoint=work / "recovery.ckpt"),
        on_epoch=on_epoch,
    )
    path = work / RECOVERED_ONNX
    with whole_file(path) as partial:
        partial.write_bytes(finetuned.SerializeToString())
    return path


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


def regressions(new: Candidate, old: Candidate, terms: Contract) -> str | None:
    """Return the reason why a recovered INT8 model is worse than the one before, None if not."""
    broken = [
        after.message()
        for before, after in zip(old.clauses(terms), new.clauses(terms), strict=True)
        if before.passed and not after.passed
    ]
    if broken:
        return f"recovered, {'; '.join(broken)}; the model before kept it"
    if rank(new, terms) >= rank(old, terms):
        return (
            f"recovered, INT8 is not nearer to the teacher: {new.loss:.4g} is missing, "
            f"{old.loss:.4g} before"
        )
    return None


def _targets(recovery: Recovery, model: Path) -> Explanation:
    """Return logits and maps to learn, in the order of the rows of training."""
    if recovery.targets is not None:
        return recovery.targets
    data = recovery.data
    series = [data.series[rows].numpy() for rows in (data.train, data.validation)]
    parts = [explain(lambda x: logits(model, x), each, recovery.plan) for each in series]
    return Explanation(
        np.concatenate([part.logits for part in parts]),
        np.concatenate([part.kl for part in parts]),
        np.concatenate([part.signed for part in parts]),
    )


def _objectives(recovery: Recovery, targets: Explanation) -> list[WeightedObjective]:
    """Return objectives of logits and maps; others compare torch layers, which ONNX has not."""
    objectives: dict[str, Objective] = {
        "cross_entropy": CrossEntropy(),
        "kd": KD(torch.from_numpy(targets.logits), temperature=recovery.temperature),
    }
    if recovery.has_maps:
        objectives["tsd_maps"] = TSDMaps(targets, recovery.plan)
    weights = {**DEFAULT_WEIGHTS, **recovery.weights}
    return [
        WeightedObjective(objective=objective, weight=weights[name])
        for name, objective in objectives.items()
    ]
