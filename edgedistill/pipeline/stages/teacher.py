"""The teacher stage: train or open a teacher, and store its outputs for all series."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from torch import nn

from edgedistill.data import Prepared
from edgedistill.distillation import seeds
from edgedistill.distillation.context import training_data
from edgedistill.distillation.objectives import CrossEntropy, WeightedObjective
from edgedistill.errors import ConfigError
from edgedistill.evaluation.evaluate import map_agreement
from edgedistill.io.files import read_json, write_json
from edgedistill.io.progress import ProgressCallback, ignore_progress
from edgedistill.pipeline.external_teacher import (
    check_columns,
    check_rows,
    load_external_teacher,
)
from edgedistill.pipeline.keys import plain_student
from edgedistill.pipeline.run_folder import TEACHER_FACTS, TEACHER_OUTPUTS
from edgedistill.recipe.recipe import Recipe
from edgedistill.saliency.perturbation import PerturbationPlan, default_plan
from edgedistill.teachers import Classifier
from edgedistill.teachers.outputs import TeacherOutputs, compute_teacher_outputs
from edgedistill.teachers.torch import TorchClassifier
from edgedistill.training import networks
from edgedistill.training.config import RunOutputs, epoch_callback
from edgedistill.training.fit import fit


def perturbation_plan(recipe: Recipe, length: int) -> PerturbationPlan:
    """Return the plan that everything in a run is compared under."""
    section = recipe.saliency
    plan = default_plan(length, width=section.width)
    return PerturbationPlan(
        length=length,
        width=plan.width,
        stride=plan.stride if section.stride is None else section.stride,
        baseline=section.baseline,
        temperature=section.temperature,
    )


def make_teacher(
    recipe: Recipe,
    data: Prepared,
    out: Path,
    work: Path,
    on_progress: ProgressCallback = ignore_progress,
) -> None:
    """Write the teacher, and its outputs for all series, into an existing folder.

    Args:
        recipe: names the teacher, or how to train one.
        data: series that the teacher is trained on, and computes outputs for.
        out: folder for weights and outputs.
        work: folder for checkpoints and TensorBoard events; survives a kill.
        on_progress: progress.

    Raises:
        ModelError: an external teacher cannot be used, or its columns stand in another order.
        ConfigError: columns are named of a teacher that is trained here.
    """
    if recipe.teacher.source is None and recipe.teacher.class_names is not None:
        raise ConfigError(
            "teacher.class_names names the columns of an external teacher, and this one is trained "
            "here, on the classes of the data. Set teacher.source, or leave it out."
        )
    plan = perturbation_plan(recipe, data.length)
    facts: dict[str, Any] = {"source": recipe.teacher.source, "plan": plan.to_dict()}
    if recipe.teacher.source is None:
        teacher: Classifier = _train(recipe, data, out, work, "teacher", recipe.seed, on_progress)
    else:
        teacher, facts["notes"] = _checked_external_teacher(recipe, data)
    teacher_outputs = compute_teacher_outputs(
        teacher, data, plan, partial(on_progress, "ask the teacher")
    )
    teacher_outputs.save(out / TEACHER_OUTPUTS)
    if recipe.teacher.source is None and recipe.references.ceiling:
        facts["ceiling"] = _ceiling(recipe, data, teacher_outputs, plan, work, on_progress)
    facts["name"] = teacher.name
    write_json(out / TEACHER_FACTS, facts)


def open_teacher(recipe: Recipe, data: Prepared, folder: Path) -> Classifier:
    """Return the teacher of a folder that `make_teacher` filled."""
    if read_json(folder / TEACHER_FACTS)["source"] is not None:
        return load_external_teacher(recipe, data)
    module, _ = networks.open_network(folder)
    return TorchClassifier(module, classes=data.classes, name="teacher")


def _checked_external_teacher(recipe: Recipe, data: Prepared) -> tuple[Classifier, list[str]]:
    """Return the teacher that a recipe brings, and sentences on how it was understood."""
    notes: list[str] = []
    teacher = load_external_teacher(recipe, data, notes.append)
    columns = recipe.teacher.class_names
    if columns is None:
        splits = (data.train, data.validation)
        check_columns(teacher, splits, data.class_names, on_note=notes.append)
        check_rows(teacher, data, on_note=notes.append)
    else:
        notes.append(f"The columns of {teacher.name} are {', '.join(columns)}.")
    return teacher, notes


def open_teacher_outputs(folder: Path) -> tuple[TeacherOutputs, dict[str, Any]]:
    """Return the teacher's outputs and facts from a folder that `make_teacher` filled."""
    return TeacherOutputs.open(folder / TEACHER_OUTPUTS), read_json(folder / TEACHER_FACTS)


def branch_terms(recipe: Recipe, data: Prepared, teacher: nn.Module) -> list[WeightedObjective]:
    """Return the objective of a student-friendly teacher, or none if the recipe names none.

    Raises:
        ConfigError: teacher or student has no stages to branch from.
    """
    config = recipe.teacher.student_friendly
    if config is None:
        return []
    plain = plain_student(recipe)
    objective = config.build(
        teacher,
        lambda seed: networks.build_untrained(plain.spec, data, seed=seed),
        training_data(data).sample,
        seed=recipe.seed,
    )
    return [WeightedObjective(objective=objective)]


def _train(
    recipe: Recipe,
    data: Prepared,
    out: Path,
    work: Path,
    name: str,
    seed: int,
    on_progress: ProgressCallback,
) -> TorchClassifier:
    config = recipe.teacher.training
    model: nn.Module = networks.build_untrained(recipe.teacher.spec, data, seed=seed)
    history = fit(
        model,
        [WeightedObjective(objective=CrossEntropy()), *branch_terms(recipe, data, model)],
        training_data(data),
        config,
        seed=seed,
        outputs=RunOutputs(
            checkpoint=work / f"{name}.ckpt", tensorboard=work / "tensorboard" / name
        ),
        on_epoch=epoch_callback(on_progress, f"train {name}", config.epochs),
    )
    networks.save(model, recipe.teacher.spec, data, history, out)
    return TorchClassifier(model, classes=data.classes, name=name)


def _ceiling(
    recipe: Recipe,
    data: Prepared,
    teacher_outputs: TeacherOutputs,
    plan: PerturbationPlan,
    work: Path,
    on_progress: ProgressCallback,
) -> list[float]:
    """Return the Pearson correlation of a second teacher's maps, one a test series."""
    folder = work / "ceiling"
    folder.mkdir(parents=True, exist_ok=True)
    second = _train(
        recipe,
        data,
        folder,
        work,
        "second teacher",
        recipe.seed + seeds.SECOND_TEACHER,
        on_progress,
    )
    matches: list[float] = map_agreement(
        second, data.test.x, plan, teacher_outputs.splits["test"]
    ).tolist()
    return matches
