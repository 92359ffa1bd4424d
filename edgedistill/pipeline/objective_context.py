"""The context of a recipe's objectives: series, plan, teacher outputs, ways to open teachers."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from torch import nn

from edgedistill.data import Prepared
from edgedistill.distillation.context import (
    ObjectiveContext,
    distillation_data,
    training_explanation,
)
from edgedistill.errors import ModelError
from edgedistill.io.files import sha256
from edgedistill.io.progress import ProgressCallback, ignore_progress
from edgedistill.pipeline.external_teacher import (
    check_columns,
    check_rows,
    load_external_teacher,
)
from edgedistill.pipeline.run_folder import TEACHER_OUTPUTS
from edgedistill.pipeline.stage_folder import cached_folder
from edgedistill.pipeline.stages.teacher import (
    open_teacher,
    perturbation_plan,
)
from edgedistill.recipe.recipe import Recipe
from edgedistill.recipe.schema import TeacherSection
from edgedistill.teachers import Classifier
from edgedistill.teachers.outputs import TeacherOutputs
from edgedistill.teachers.torch import TorchClassifier
from edgedistill.training import networks


def objective_context(
    recipe: Recipe,
    data: Prepared,
    teacher: Path,
    teacher_outputs: TeacherOutputs,
    student: nn.Module,
    cache_folder: Path,
    on_progress: ProgressCallback = ignore_progress,
) -> ObjectiveContext:
    """Return the context that the objectives of a recipe are built from.

    Args:
        recipe: names seed, plan and teacher.
        data: series to learn from and to choose weights on.
        teacher: folder of the teacher stage.
        teacher_outputs: logits and maps of that teacher.
        student: network that learns.
        cache_folder: folder of the teacher outputs that students share.
        on_progress: reports how far teachers are.
    """
    return ObjectiveContext(
        student=student,
        data=distillation_data(data, teacher_outputs),
        explanation=training_explanation(teacher_outputs),
        has_maps=teacher_outputs.maps,
        plan=perturbation_plan(recipe, data.length),
        teacher_key=sha256(teacher / TEACHER_OUTPUTS),
        teacher_spec=recipe.teacher.spec,
        open_teacher=partial(open_teacher, recipe, data, teacher),
        open_source=partial(open_source, recipe=recipe, data=data),
        cache=partial(cached_folder, cache_folder),
        seed=recipe.seed,
        on_progress=on_progress,
    )


def open_source(source: str, *, recipe: Recipe, data: Prepared, trust: bool) -> Classifier:
    """Return the teacher of a folder that `train` wrote, or one that a recipe can bring.

    Args:
        source: the folder, or what `teacher.source` takes.
        recipe: names the data that the teacher is tried on.
        data: its series and classes.
        trust: whether a joblib file may run the code it contains.

    Raises:
        ModelError: it cannot be read, or was made for other classes or channels.
        UsageError: it names no teacher.
    """
    if not Path(source).is_dir():
        section = TeacherSection(source=source, trust=trust)
        teacher = load_external_teacher(recipe.model_copy(update={"teacher": section}), data)
        splits = (data.train, data.validation)
        check_columns(teacher, splits, data.class_names, setting=None, allows_chance=True)
        check_rows(teacher, data, setting=None)
        return teacher
    module, facts = networks.open_network(Path(source))
    known = facts["classes"], facts["channels"]
    needed = data.classes, data.channels
    if known != needed:
        raise ModelError(
            f"The network in {source} knows {known[0]} classes of series with {known[1]} "
            f"channels; the data set has {needed[0]} classes and {needed[1]} channels. Take a "
            "teacher of this data set."
        )
    return TorchClassifier(module, classes=needed[0], name=source)
