"""The variant stage: typed variants, those that a search adds to them, and other file formats."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

from edgedistill import __version__
from edgedistill.bundle.reader import Model
from edgedistill.data import Prepared
from edgedistill.data.splits import stratified_series
from edgedistill.device.runtime import start
from edgedistill.distillation.configs.config import Range, Weight
from edgedistill.distillation.configs.objectives import KDConfig
from edgedistill.distillation.context import distillation_data, training_explanation
from edgedistill.evaluation.metrics import Estimate
from edgedistill.io.files import fingerprint, sha256
from edgedistill.io.progress import ProgressCallback, ignore_progress
from edgedistill.optimize.mixed_precision.search import Measure
from edgedistill.optimize.optimize import MIXED_VARIANT, SearchPlan, optimize
from edgedistill.optimize.qat.finetune import DEFAULT_TEMPERATURE, DEFAULT_WEIGHTS, Recovery
from edgedistill.optimize.quantization.calibration import cached_observer
from edgedistill.pipeline.run_folder import TEACHER_OUTPUTS
from edgedistill.pipeline.stages.evaluate import evaluate_on_validation, measure_latency
from edgedistill.pipeline.stages.teacher import (
    open_teacher_outputs,
    perturbation_plan,
)
from edgedistill.recipe.recipe import Recipe
from edgedistill.teachers.outputs import TeacherOutputs

CALIBRATION = "calibration"


def make_variants(
    recipe: Recipe,
    data: Prepared,
    teacher: Path | None,
    model: Path,
    out: Path,
    work: Path,
    on_progress: ProgressCallback = ignore_progress,
) -> None:
    """Write all variants of an ONNX file that the recipe names into an existing folder.

    Args:
        recipe: precisions, runtimes, search, formats.
        data: training series calibrate, validation series judge.
        teacher: folder of the teacher stage; None if the recipe has no search.
        model: path of the exported student.
        out: folder of the variants.
        work: folder for what a killed search resumes from. Beside it are the histograms of
            calibration, which the next run reads; they may be removed.
        on_progress: progress.
    """
    settings = recipe.optimize
    optimize(
        model,
        stratified_series(data.train, settings.calibration, recipe.seed),
        out,
        work,
        precisions=settings.precisions,
        runtimes=settings.runtimes,
        batch=settings.batch,
        formats=settings.formats,
        checked=data.train.x,
        plan=None if teacher is None else search_plan(recipe, data, teacher),
        observe=cached_observer(work.parent / CALIBRATION),
        on_progress=on_progress,
    )


def search_plan(recipe: Recipe, data: Prepared, teacher: Path) -> SearchPlan | None:
    """Return the search of a recipe, if it has one.

    Args:
        recipe: contract, plan, and `optimize.search`.
        data: validation series judge, training series recover.
        teacher: folder of the teacher stage.
    """
    section = recipe.optimize.search
    if section is None:
        return None
    teacher_outputs, _ = open_teacher_outputs(teacher)
    plan = recipe.to_dict()["saliency"]
    measured = [plan, recipe.optimize.runs, sha256(teacher / TEACHER_OUTPUTS)]
    return SearchPlan(
        contract=recipe.contract,
        measure=candidate_evaluator(recipe, data, teacher_outputs),
        context=fingerprint([__version__, data.fingerprint, measured]),
        validation=len(data.validation.y),
        prefer=recipe.optimize.prefer,
        budget_s=section.budget_s,
        agreement_loss=section.agreement_loss,
        saliency_loss=section.saliency_loss,
        recovery=_recovery(recipe, data, teacher_outputs),
    )


def candidate_evaluator(recipe: Recipe, data: Prepared, teacher_outputs: TeacherOutputs) -> Measure:
    """Return a function that measures a file on validation series against the teacher."""

    def measure(path: Path) -> Mapping[str, Estimate]:
        model = Model(
            name=MIXED_VARIANT, path=path, runtime="onnxruntime", precision="mixed", parameters=0
        )
        latency = measure_latency(model, data.validation.x, recipe.optimize.runs)
        return evaluate_on_validation(model, latency, start(model), recipe, data, teacher_outputs)

    return measure


def _recovery(recipe: Recipe, data: Prepared, teacher_outputs: TeacherOutputs) -> Recovery | None:
    section = recipe.optimize.recover
    if section is None:
        return None
    terms = {term.name: term for term in recipe.student.objectives}
    kd = terms.get("kd")
    targets = training_explanation(teacher_outputs)
    return Recovery(
        data=distillation_data(data, teacher_outputs),
        targets=targets if section.target == "teacher" else None,
        plan=perturbation_plan(recipe, data.length),
        has_maps=teacher_outputs.maps,
        training=recipe.student.training,
        epochs=section.epochs,
        learning_rate=section.learning_rate,
        seed=recipe.seed,
        weights={name: _weight(terms[name].weight) for name in DEFAULT_WEIGHTS if name in terms},
        temperature=kd.temperature if isinstance(kd, KDConfig) else DEFAULT_TEMPERATURE,
        always=section.always,
    )


def _weight(weight: Weight) -> float:
    """Return a weight, or, of those that were tried, the middle one."""
    if isinstance(weight, Range):
        return math.sqrt(weight.low * weight.high)
    return sorted(weight)[len(weight) // 2] if isinstance(weight, tuple) else weight
