"""Measure teacher, student and every variant on held-out series, and choose under the contract."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgedistill.bundle.reader import Model
from edgedistill.data import Prepared
from edgedistill.device import benchmark
from edgedistill.device.benchmark import Latency
from edgedistill.device.runtime import Runtime, start
from edgedistill.distillation import seeds
from edgedistill.evaluation import metrics
from edgedistill.evaluation.contract import ContractClause, judge, verdict
from edgedistill.evaluation.evaluate import (
    Evaluation,
    evaluate,
    evaluate_explanation,
    map_agreement,
)
from edgedistill.evaluation.metrics import Estimate
from edgedistill.inspection import size_with_external_data
from edgedistill.io.arrays import AnyFloats, Floats
from edgedistill.io.progress import ProgressCallback, ignore_progress
from edgedistill.optimize.emulation import Emulation
from edgedistill.optimize.variant_folder import open_failures, open_variants
from edgedistill.pipeline.scoring import choose, with_report_estimates, without_latency
from edgedistill.pipeline.stages.speed import compare_speed, one_thread
from edgedistill.pipeline.stages.teacher import (
    open_teacher,
    open_teacher_outputs,
    perturbation_plan,
)
from edgedistill.recipe.recipe import Recipe
from edgedistill.report import SpeedComparison
from edgedistill.runtimes.tensorrt.runtime import TensorRtRuntime
from edgedistill.saliency.classifier import Classifier
from edgedistill.saliency.occlusion import Explanation
from edgedistill.saliency.perturbation import PerturbationPlan, unseen_plan
from edgedistill.teachers import OnnxClassifier, TorchClassifier
from edgedistill.teachers.columns import unwrapped
from edgedistill.teachers.outputs import TeacherOutputs
from edgedistill.training import networks


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """A model on the test split."""

    evaluation: Evaluation
    unseen: Estimate | None = None  # saliency Pearson under a plan nothing was tuned to
    latency: Latency | None = None
    size_bytes: int | None = None
    parameters: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The measurements and choices of a run; bundle and report are made from it."""

    recipe: Recipe
    data: Prepared
    plan: PerturbationPlan
    teacher_outputs: TeacherOutputs
    teacher: Measurement
    student: Measurement
    models: tuple[Model, ...]
    variants: Mapping[str, Measurement]  # by the model's name
    chosen: str | None  # variant that kept the contract on the validation split
    judged_name: str  # the chosen variant; without one, the variant that came nearest
    clauses: tuple[ContractClause, ...]  # on the test split
    failures: Mapping[
        str, tuple[ContractClause, ...]
    ]  # clauses that each variant broke on validation
    references: Mapping[str, Estimate]
    speed: SpeedComparison | None  # of the judged variant and the teacher
    curves: Mapping[str, list[dict[str, Any]]]
    missing: Mapping[str, str]  # reasons for variants that could not be made, by their names

    @property
    def is_kept(self) -> bool:
        """Whether a variant was chosen and keeps the contract on the test split."""
        return self.chosen is not None and verdict(self.clauses) == "kept"

    @property
    def explanation(self) -> Explanation:
        """The judged variant's explanation of the test split."""
        return self.variants[self.judged_name].evaluation.explanation


def evaluate_all(
    recipe: Recipe,
    data: Prepared,
    teacher: Path,
    student: Path,
    variants: Path,
    on_progress: ProgressCallback = ignore_progress,
) -> Outcome:
    """Measure everything, choose on the validation split, judge on the test split.

    Args:
        recipe: recipe with contract, plan and preference.
        data: data set with the held-out series.
        teacher: folder of the teacher stage.
        student: folder of the student stage.
        variants: folder of the variant stage.
        on_progress: progress callback.
    """
    plan = perturbation_plan(recipe, data.length)
    teacher_outputs, teacher_facts = open_teacher_outputs(teacher)
    models = tuple(open_variants(variants))
    validation, tested = _evaluate_variants(recipe, data, models, teacher_outputs, on_progress)
    chosen = _choose(recipe, models, validation)
    failures = {name: _broken(recipe, values) for name, values in validation.items()}
    judged = chosen or min(failures, key=lambda name: len(failures[name]))
    of_teacher, teacher_curve = _evaluate_teacher(recipe, data, teacher, teacher_outputs)
    of_student, student_curve = _evaluate_student(recipe, data, student, teacher_outputs, plan)
    references = _references(recipe, data, teacher_outputs, plan, teacher_facts)
    on_progress("measure", 2 * len(models) + 2, 2 * len(models) + 2)
    return Outcome(
        recipe=recipe,
        data=data,
        plan=plan,
        teacher_outputs=teacher_outputs,
        teacher=of_teacher,
        student=of_student,
        models=models,
        variants=tested,
        chosen=chosen,
        judged_name=judged,
        clauses=_clauses(recipe, clause_values(tested[judged])),
        failures=failures,
        references=references,
        speed=_compare_speed(recipe, data, teacher, models, judged, teacher_outputs),
        curves={"teacher": teacher_curve, "student": student_curve},
        missing=open_failures(variants),
    )


def _evaluate_variants(
    recipe: Recipe,
    data: Prepared,
    models: Sequence[Model],
    teacher_outputs: TeacherOutputs,
    on_progress: ProgressCallback,
) -> tuple[dict[str, dict[str, Estimate]], dict[str, Measurement]]:
    """Return the estimates on validation and the measurement on test of each model, by name."""
    plan = perturbation_plan(recipe, data.length)
    classifiers = {model.name: start_on_host(model) for model in models}
    steps = 2 * len(models) + 2
    validation, tested = {}, {}
    for index, model in enumerate(models):
        on_progress("measure", index, steps)
        validation[model.name] = evaluate_on_validation(
            model, classifiers[model.name], recipe, data, teacher_outputs
        )
    for index, model in enumerate(models):
        on_progress("measure", len(models) + index, steps)
        tested[model.name] = _evaluate_on_test(
            classifiers[model.name],
            data,
            teacher_outputs,
            plan,
            latency=_latency(model, data.test.x, recipe.optimize.runs),
            size_bytes=model.size_bytes,
            parameters=model.parameters,
        )
    on_progress("measure", steps - 2, steps)
    return validation, tested


def start_on_host(model: Model) -> Runtime:
    """Start a model on this machine: for TensorRT, an emulation."""
    return Emulation(model.path) if model.runtime == TensorRtRuntime.name else start(model)


def floor_agreement(
    recipe: Recipe, data: Prepared, teacher: Explanation, plan: PerturbationPlan
) -> AnyFloats:
    """Return the agreement of an untrained student's maps with the teacher's on the test split."""
    seed = recipe.seed + seeds.FLOOR_STUDENT
    untrained = networks.build_untrained(recipe.student.spec, data, seed=seed)
    student = TorchClassifier(untrained, classes=data.classes, name="floor")
    return map_agreement(student, data.test.x, plan, teacher)


def _choose(
    recipe: Recipe, models: Sequence[Model], estimates: Mapping[str, Mapping[str, Estimate]]
) -> str | None:
    """Return the best model of the first runtime of the recipe that has one under the contract.

    Runtimes are not compared, because a model for TensorRT cannot be timed here.
    """
    for runtime in recipe.optimize.runtimes:
        own = {m.name: estimates[m.name] for m in models if m.runtime == runtime}
        name = choose(own, recipe.contract, recipe.optimize.prefer)
        if name is not None:
            return name
    return None


def _clauses(recipe: Recipe, values: Mapping[str, Estimate]) -> tuple[ContractClause, ...]:
    return judge(without_latency(recipe.contract, values), values)


def _broken(recipe: Recipe, values: Mapping[str, Estimate]) -> tuple[ContractClause, ...]:
    return tuple(clause for clause in _clauses(recipe, values) if not clause.passed)


def _latency(model: Model, series: Floats, runs: int) -> Latency | None:
    """Return the latency of a model that runs here as it runs on the board.

    The session is one of its own: on x86 without VNNI, exact INT8 is slower than a board's.
    """
    if model.runtime == TensorRtRuntime.name:
        return None
    return benchmark.measure(start(model, exact_int8=False), series[:1], runs=runs)


def _compare_speed(
    recipe: Recipe,
    data: Prepared,
    folder: Path,
    models: Sequence[Model],
    judged: str,
    teacher_outputs: TeacherOutputs,
) -> SpeedComparison | None:
    """Return the speed of the judged variant beside the teacher's; a table of logits has none."""
    if not teacher_outputs.maps:
        return None
    model = next(model for model in models if model.name == judged)
    return compare_speed(model, open_teacher(recipe, data, folder), data.test.x)


def _single_thread_latency(classifier: Classifier, series: Floats, runs: int) -> Latency:
    """Return the latency of a teacher or torch student on one thread, as that of the variants."""
    inner = unwrapped(classifier)
    alone = inner.on_one_thread() if isinstance(inner, OnnxClassifier) else classifier
    with one_thread():
        return benchmark.measure(alone, series[:1], runs=runs)


def clause_values(measurement: Measurement) -> dict[str, Estimate]:
    """Return the values that clauses can name: the estimates, size and latency."""
    return dict(measurement.evaluation.estimates) | _costs(
        measurement.size_bytes, measurement.latency
    )


def _costs(size_bytes: int | None, latency: Latency | None) -> dict[str, Estimate]:
    values = {}
    if size_bytes is not None:
        size = float(size_bytes)
        values["size_bytes"] = Estimate(size, size, size)
    if latency is not None:
        values["latency_p50_ms"] = latency.p50_ms
        values["latency_p95_ms"] = latency.p95_ms
    return values


def evaluate_on_validation(
    model: Model,
    classifier: Classifier,
    recipe: Recipe,
    data: Prepared,
    teacher_outputs: TeacherOutputs,
) -> dict[str, Estimate]:
    """Return the values that clauses can name, of a model on the validation split."""
    plan = perturbation_plan(recipe, data.length)
    x, y, teacher = data.validation.x, data.validation.y, teacher_outputs.splits["validation"]
    estimates = evaluate(classifier, x, y, teacher, plan).estimates
    return estimates | _costs(model.size_bytes, _latency(model, x, recipe.optimize.runs))


def _evaluate_on_test(
    classifier: Classifier,
    data: Prepared,
    teacher_outputs: TeacherOutputs,
    plan: PerturbationPlan,
    *,
    latency: Latency | None,
    size_bytes: int,
    parameters: int,
) -> Measurement:
    x, y, teacher = data.test.x, data.test.y, teacher_outputs.splits["test"]
    unseen = None
    if teacher_outputs.maps:
        unseen = metrics.estimate_mean(
            map_agreement(classifier, x, unseen_plan(plan), teacher_outputs.unseen)
        )
    return Measurement(
        evaluation=with_report_estimates(evaluate(classifier, x, y, teacher, plan), y),
        unseen=unseen,
        latency=latency,
        size_bytes=size_bytes,
        parameters=parameters,
    )


def _evaluate_teacher(
    recipe: Recipe, data: Prepared, folder: Path, teacher_outputs: TeacherOutputs
) -> tuple[Measurement, list[dict[str, Any]]]:
    outputs = teacher_outputs.splits["test"]
    source = recipe.teacher.weights or recipe.teacher.source
    facts: dict[str, Any] = {}
    if source is None:
        facts = networks.open_network(folder)[1]
        file: Path | None = folder / networks.WEIGHTS
    else:
        file = Path(source) if Path(source).is_file() and teacher_outputs.maps else None
    measurement = Measurement(
        evaluation=with_report_estimates(
            evaluate_explanation(outputs, data.test.y, outputs), data.test.y
        ),
        latency=(
            _single_thread_latency(
                open_teacher(recipe, data, folder), data.test.x, recipe.optimize.runs
            )
            if teacher_outputs.maps
            else None  # a table of logits has no speed
        ),
        size_bytes=None if file is None else size_with_external_data(file),
        parameters=facts.get("cost", {}).get("parameters"),
    )
    return measurement, facts.get("history", [])


def _evaluate_student(
    recipe: Recipe,
    data: Prepared,
    folder: Path,
    teacher_outputs: TeacherOutputs,
    plan: PerturbationPlan,
) -> tuple[Measurement, list[dict[str, Any]]]:
    module, facts = networks.open_network(folder)
    classifier = TorchClassifier(module, classes=data.classes, name="torch")
    measurement = _evaluate_on_test(
        classifier,
        data,
        teacher_outputs,
        plan,
        latency=_single_thread_latency(classifier, data.test.x, recipe.optimize.runs),
        size_bytes=(folder / networks.WEIGHTS).stat().st_size,
        parameters=facts["cost"]["parameters"],
    )
    return measurement, facts["history"]


def _references(
    recipe: Recipe,
    data: Prepared,
    teacher_outputs: TeacherOutputs,
    plan: PerturbationPlan,
    teacher_facts: dict[str, Any],
) -> dict[str, Estimate]:
    """Return the saliency agreement of an untrained student and of a second teacher."""
    references: dict[str, Estimate] = {}
    if recipe.references.floor and teacher_outputs.maps:
        references["floor"] = metrics.estimate_mean(
            floor_agreement(recipe, data, teacher_outputs.splits["test"], plan)
        )
    if "ceiling" in teacher_facts:
        references["ceiling"] = metrics.estimate_mean(np.array(teacher_facts["ceiling"]))
    return references
