"""Recovery of an INT8 student that breaks the contract: train in 8 bits, and search again."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from edgedistill.data import Prepared
from edgedistill.distillation.objectives import (
    KD,
    CrossEntropy,
    Objective,
    TSDMaps,
    WeightedObjective,
)
from edgedistill.distillation.objectives.config import Range, Weight
from edgedistill.distillation.objectives.kd import KDConfig
from edgedistill.errors import ModelError
from edgedistill.io.arrays import Floats
from edgedistill.io.files import whole_file
from edgedistill.io.progress import ProgressCallback, ignore_progress
from edgedistill.optimize.execution import logits
from edgedistill.optimize.mixed_precision.search import Search
from edgedistill.optimize.passes.graph import fold, load, strip
from edgedistill.optimize.qat.finetune import recover
from edgedistill.optimize.qat.model import check_trainable
from edgedistill.optimize.quantization.calibration import Observe, observe
from edgedistill.pipeline.progress import epoch_callback
from edgedistill.pipeline.stages.teacher import perturbation_plan, training_data
from edgedistill.recipe.recipe import Recipe
from edgedistill.recipe.schema import RecoverSection
from edgedistill.saliency.occlusion import Explanation, explain
from edgedistill.saliency.perturbation import PerturbationPlan
from edgedistill.teachers.outputs import TeacherOutputs
from edgedistill.training.config import RunOutputs

RECOVERED_ONNX = "recovered.onnx"
_DEFAULT_WEIGHTS = {
    "cross_entropy": 0.1,
    "kd": 0.9,
    "tsd_maps": 2.0,
}  # weights where the recipe has none
_TEMPERATURE = 4.0  # of `kd`, where the recipe has none


def recovery_blocker(section: RecoverSection, search: Search, model: Path) -> str | None:
    """Return why a recovery is not tried, or None if it is."""
    if not section.always and search.all_int8.keeps(search.terms):
        return "plain INT8 keeps the contract"
    try:
        check_trainable(strip(fold(load(model))))
    except ModelError as error:
        return str(error)
    return None


def finetune_int8(
    recipe: Recipe,
    section: RecoverSection,
    data: Prepared,
    teacher_outputs: TeacherOutputs,
    model: Path,
    calibration: Floats,
    search: Search,
    work: Path,
    on_progress: ProgressCallback = ignore_progress,
    *,
    observe: Observe = observe,
) -> Path:
    """Return the file of a float student whose weights were trained in 8 bits.

    Args:
        recipe: plan, objectives of the student, how it is trained.
        section: epochs, learning rate, whose maps.
        data: series to learn from and to judge on.
        teacher_outputs: of the teacher.
        model: the exported student.
        calibration: series that set the ranges, (N, C, T).
        search: the search before; its plain INT8 model is what is trained.
        work: folder for the checkpoint and the result.
        on_progress: progress.
        observe: collects what the model's values are on the calibration series, or knows it.
    """
    config = replace(
        recipe.student.training,
        epochs=section.epochs,
        learning_rate=section.learning_rate,
        select="objective",
        patience=None,
        freeze_norm_from=None,
    )
    plan = perturbation_plan(recipe, data.length)
    explanation = _target_explanation(section, data, teacher_outputs, model, plan)
    finetuned = recover(
        strip(fold(load(model))),
        calibration,
        _terms(recipe, explanation, plan, maps=teacher_outputs.maps),
        training_data(data),
        config,
        seed=recipe.seed,
        method=search.all_int8.setting.method or "minmax",
        observe=observe,
        outputs=RunOutputs(checkpoint=work / "recovery.ckpt"),
        on_epoch=epoch_callback(on_progress, "recover", section.epochs),
    )
    path = work / RECOVERED_ONNX
    with whole_file(path) as partial:
        partial.write_bytes(finetuned.SerializeToString())
    return path


def _target_explanation(
    section: RecoverSection,
    data: Prepared,
    teacher_outputs: TeacherOutputs,
    model: Path,
    plan: PerturbationPlan,
) -> Explanation:
    """Return the answers to learn from, in the order of the rows that training knows."""
    if section.target == "teacher":
        parts = [teacher_outputs.splits["train"], teacher_outputs.splits["validation"]]
    else:
        series = (data.train.x, data.validation.x)
        parts = [explain(lambda x: logits(model, x), each, plan) for each in series]
    return Explanation(
        np.concatenate([part.logits for part in parts]),
        np.concatenate([part.kl for part in parts]),
        np.concatenate([part.signed for part in parts]),
    )


def _terms(
    recipe: Recipe, explanation: Explanation, plan: PerturbationPlan, *, maps: bool
) -> list[WeightedObjective]:
    """Return the recipe's objectives of answers and maps; what else it has needs torch layers."""
    terms = {term.name: term for term in recipe.student.objectives}
    kd = terms.get("kd")
    temperature = kd.temperature if isinstance(kd, KDConfig) else _TEMPERATURE
    objectives: dict[str, Objective] = {
        "cross_entropy": CrossEntropy(),
        "kd": KD(torch.from_numpy(explanation.logits), temperature=temperature),
    }
    if maps:
        objectives["tsd_maps"] = TSDMaps(explanation, plan)
    return [
        WeightedObjective(
            objective=objective,
            weight=_weight(terms[name].weight) if name in terms else _DEFAULT_WEIGHTS[name],
        )
        for name, objective in objectives.items()
    ]


def _weight(weight: Weight) -> float:
    """Return a weight, or, of those that were tried, the middle one."""
    if isinstance(weight, Range):
        return math.sqrt(weight.low * weight.high)
    return sorted(weight)[len(weight) // 2] if isinstance(weight, tuple) else weight
