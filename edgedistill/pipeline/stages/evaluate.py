"""Measure teacher, student and every variant on held-out series, and choose under the contract."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
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
from edgedistill.pipeline.scoring import Choice, choose, with_report_estimates, without_latency
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
from edgedistill.teachers.columns import unwrapped
from edgedistill.teachers.onnx import OnnxClassifier
from edgedistill.teachers.outputs import TeacherOutputs
from edgedistill.teachers.torch import TorchClassifier
from edgedistill.training import networks
from edgedistill.training.config import WEIGHTS


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """A model on the test split."""

    evaluation: Evaluation
    unseen: Estimate | None = None  # saliency Pearson under a plan nothing was tuned to
    latency: Latency | None = None
    size_bytes: int | None = None
    parameters: int | None = None
    history: Sequence[Mapping[str, Any]] = ()  # of its training here, an entry an epoch


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
    choice: Choice | None  # of those that kept the contract on the validation split
    clauses: tuple[ContractClause, ...]  # on the test split
    validation: Mapping[str, tuple[ContractClause, ...]]  # on the validation split, by variant
    references: Mapping[str, Estimate]
    speed: SpeedComparison | None  # of the judged variant and the teacher
    missing: Mapping[str, str]  # reasons for variants that could not be made, by their names

    @property
    def chosen(self) -> str | None:
        """Name of the chosen variant."""
        return None if self.choice is None else self.choice.name

    @property
    def judged_name(self) -> str:
        """The chosen variant; without one, the variant that broke the fewest clauses."""
        return _judged_name(self.choice, self.validation)

    @property
    def is_kept(self) -> bool:
        """Whether a variant was chosen and keeps the contract on the test split."""
        return self.chosen is not None and verdict(self.clauses) == "kept"

    @property
    def failures(self) -> dict[str, tuple[ContractClause, ...]]:
        """The clauses that each variant broke on the validation split."""
        return {name: _broken(clauses) for name, clauses in self.validation.items()}

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
    teacher_outputs, teacher_facts = open_teacher_outputs(teacher)
    models = tuple(open_variants(variants))
    estimates, tested = _evaluate_variants(recipe, data, models, teacher_outputs, on_progress)
    choice, validation, judged = _judge_on_validation(recipe, models, estimates)
    outcome = Outcome(
        recipe=recipe,
        data=data,
        plan=perturbation_plan(recipe, data.length),
        teacher_outputs=teacher_outputs,
        teacher=_evaluate_teacher(recipe, data, teacher, teacher_outputs),
        student=_evaluate_student(recipe, data, student, teacher_outputs),
        models=models,
        variants=tested,
        choice=choice,
        clauses=_clauses(recipe, clause_values(tested[judged])),
        validation=validation,
        references=_references(recipe, data, teacher_outputs, teacher_facts),
        speed=_compare_speed(recipe, data, teacher, models, judged, teacher_outputs),
        missing=open_failures(variants),
    )
    on_progress("measure", 2 * len(models) + 2, 2 * len(models) + 2)
    return outcome


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
    latencies, validation, tested = {}, {}, {}
    for index, model in enumerate(models):
        on_progress("measure", index, steps)
        # Measured once: what decides is what is reported.
        latencies[model.name] = measure_latency(model, data.test.x, recipe.optimize.runs)
        validation[model.name] = evaluate_on_validation(
            model,
            latencies[model.name],
            classifiers[model.name],
            recipe,
            data,
            teacher_outputs,
        )
    for index, model in enumerate(models):
        on_progress("measure", len(models) + index, steps)
        tested[model.name] = _evaluate_on_test(
            classifiers[model.name],
            data,
            teacher_outputs,
            plan,
            latency=latencies[model.name],
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
    untrained = networks.build_untrained(recipe.student.network, data, seed=seed)
    student = TorchClassifier(untrained, classes=data.classes, name="floor")
    return map_agreement(student, data.test.x, plan, teacher)


def _judge_on_validation(
    recipe: Recipe, models: Sequence[Model], estimates: Mapping[str, Mapping[str, Estimate]]
) -> tuple[Choice | None, dict[str, tuple[ContractClause, ...]], str]:
    """Return the choice, the clauses of every variant, and the name of the one to judge."""
    validation = {name: _clauses(recipe, values) for name, values in estimates.items()}
    choice = _choose(recipe, models, estimates)
    return choice, validation, _judged_name(choice, validation)


def _choose(
    recipe: Recipe, models: Sequence[Model], estimates: Mapping[str, Mapping[str, Estimate]]
) -> Choice | None:
    """Choose the best model of the first runtime of the recipe that has one under the contract.

    Runtimes are not compared, because a model for TensorRT cannot be timed here.
    """
    for runtime in recipe.optimize.runtimes:
        own = {m.name: estimates[m.name] for m in models if m.runtime == runtime}
        choice = choose(own, recipe.contract, recipe.optimize.prefer)
        if choice is not None:
            return choice
    return None


def _clauses(recipe: Recipe, values: Mapping[str, Estimate]) -> tuple[ContractClause, ...]:
    return judge(without_latency(recipe.contract, values), values)


def _broken(clauses: Sequence[ContractClause]) -> tuple[ContractClause, ...]:
    return tuple(clause for clause in clauses if not clause.passed)


def _judged_name(
    choice: Choice | None, validation: Mapping[str, tuple[ContractClause, ...]]
) -> str:
    if choice is not None:
        return choice.name
    return min(validation, key=lambda name: len(_broken(validation[name])))


def measure_latency(model: Model, series: Floats, runs: int) -> Latency | None:
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
    latency: Latency | None,
    classifier: Classifier,
    recipe: Recipe,
    data: Prepared,
    teacher_outputs: TeacherOutputs,
) -> dict[str, Estimate]:
    """Return the values that clauses can name, of a model on the validation split."""
    plan = perturbation_plan(recipe, data.length)
    x, y, teacher = data.validation.x, data.validation.y, teacher_outputs.splits["validation"]
    estimates = evaluate(classifier, x, y, teacher, plan).estimates
    return estimates | _costs(model.size_bytes, latency)


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
) -> Measurement:
    outputs = teacher_outputs.splits["test"]
    source = recipe.teacher.weights or recipe.teacher.source
    facts: dict[str, Any] = {}
    if source is None:
        facts = networks.open_network(folder)[1]
        file: Path | None = folder / WEIGHTS
    else:
        file = Path(source) if Path(source).is_file() and teacher_outputs.maps else None
    return Measurement(
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
        history=facts.get("history", []),
    )


def _evaluate_student(
    recipe: Recipe,
    data: Prepared,
    folder: Path,
    teacher_outputs: TeacherOutputs,
) -> Measurement:
    module, facts = networks.open_network(folder)
    classifier = TorchClassifier(module, classes=data.classes, name="torch")
    measurement = _evaluate_on_test(
        classifier,
        data,
        teacher_outputs,
        perturbation_plan(recipe, data.length),
        latency=_single_thread_latency(classifier, data.test.x, recipe.optimize.runs),
        size_bytes=(folder / WEIGHTS).stat().st_size,
        parameters=facts["cost"]["parameters"],
    )
    return replace(measurement, history=facts["history"])


def _references(
    recipe: Recipe,
    data: Prepared,
    teacher_outputs: TeacherOutputs,
    teacher_facts: dict[str, Any],
) -> dict[str, Estimate]:
    """Return the saliency agreement of an untrained student and of a second teacher."""
    references: dict[str, Estimate] = {}
    if recipe.references.floor and teacher_outputs.maps:
        plan = perturbation_plan(recipe, data.length)
        references["floor"] = metrics.estimate_mean(
            floor_agreement(recipe, data, teacher_outputs.splits["test"], plan)
        )
    if "ceiling" in teacher_facts:
        references["ceiling"] = metrics.estimate_mean(np.array(teacher_facts["ceiling"]))
    return references
