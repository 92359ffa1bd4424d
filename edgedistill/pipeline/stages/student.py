"""The student stage: distill with every weight that the recipe leaves open, and choose."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from torch import nn

from edgedistill.data import Prepared
from edgedistill.distillation.configs.config import ObjectiveConfig
from edgedistill.distillation.context import ObjectiveContext
from edgedistill.distillation.objectives import WeightedObjective, build_objective
from edgedistill.errors import ConfigError
from edgedistill.io.files import fingerprint, write_json
from edgedistill.io.progress import ProgressCallback, ignore_progress
from edgedistill.pipeline.keys import student_key
from edgedistill.pipeline.objective_context import objective_context
from edgedistill.pipeline.run_folder import TRIALS
from edgedistill.pipeline.stages.teacher import open_teacher_outputs
from edgedistill.recipe.recipe import Recipe
from edgedistill.teachers.factory import fill_weights
from edgedistill.teachers.outputs import TeacherOutputs
from edgedistill.training import networks
from edgedistill.training import weight_search as search
from edgedistill.training.config import FACTS, WEIGHTS, Epoch, RunOutputs, epoch_callback
from edgedistill.training.distill import Pruning, distill
from edgedistill.training.pruning import Pruner
from edgedistill.training.weight_search import HalvingStage, Trial


def make_student(
    recipe: Recipe,
    data: Prepared,
    teacher: Path,
    out: Path,
    work: Path,
    on_progress: ProgressCallback = ignore_progress,
) -> None:
    """Write the distilled student into an existing folder.

    Args:
        recipe: student, objectives, training.
        data: series to learn from and to choose weights on.
        teacher: folder of the teacher stage.
        out: folder for the chosen student, and for the trials.
        work: folder for checkpoints and TensorBoard events; survives a kill. Beside it lie
            the caches of the teacher's outputs, which later students read too.
        on_progress: progress.
    """
    teacher_outputs, _ = open_teacher_outputs(teacher)
    candidates = weight_candidates(recipe)
    stages = halving_stages(recipe, len(candidates))
    key = student_key(recipe, data, teacher)
    folders = [work / f"student-{index}" for index in range(len(candidates))]

    def train(index: int, number: int) -> Trial:
        name, epoch = _progress_name(index, number, stages), stages[number].epoch
        return _train(
            *(recipe, data, teacher, teacher_outputs, candidates[index], folders[index], epoch),
            on_epoch=epoch_callback(on_progress, name, epoch),
            on_progress=on_progress,
        )

    keys = [fingerprint([key, weights]) for weights in candidates]
    trials, chosen = search.search_weights(
        stages, train, keys=keys, folders=folders, samples=len(data.validation.y)
    )
    for name in (WEIGHTS, FACTS):
        shutil.copyfile(folders[chosen] / name, out / name)
    write_json(out / TRIALS, search.search_summary(stages, trials, chosen))


def weight_candidates(recipe: Recipe) -> list[tuple[float, ...]]:
    """Return every combination of the objectives' weights that a recipe tries."""
    section = recipe.student
    return search.weight_candidates(
        [objective.weight for objective in section.objectives],
        points=section.search.points,
        seed=recipe.seed,
    )


def halving_stages(recipe: Recipe, candidates: int) -> list[HalvingStage]:
    """Return the stages of a search; only the end of training where all train in full."""
    section = recipe.student
    epochs = section.training.epochs
    if section.search.method == "full":
        return [HalvingStage(epochs, candidates)]
    return search.halving_schedule(
        candidates,
        before=_first_choice(recipe),
        epochs=epochs,
        eta=section.search.eta,
        first=section.search.first,
    )


def initial_student(
    recipe: Recipe, data: Prepared, teacher: Path
) -> tuple[nn.Module, Pruning | None]:
    """Return the initial network of a student, and its pruner if it is pruned while it trains.

    Args:
        recipe: names the student, and whether it is pruned from its teacher.
        data: decides the shape of the network.
        teacher: folder of the teacher stage.

    Raises:
        UsageError, ModelError: its factory or its weights cannot be used.
        ConfigError: it is to be pruned, and the teacher of the folder is not one of ours, or
            not a wider version of the student.
    """
    student = networks.build_untrained(recipe.student.network, data, seed=recipe.seed)
    if recipe.student.weights is not None:
        fill_weights(student, Path(recipe.student.weights))
    section = recipe.student.prune_from_teacher
    if section is None:
        return student, None
    if not (teacher / FACTS).exists():
        raise ConfigError(
            f"prune_from_teacher starts from a teacher that was trained here, and {teacher} holds "
            "a brought one. Leave teacher.source out, or leave prune_from_teacher out."
        )
    wide, _ = networks.open_network(teacher)
    pruner = Pruner(wide, student, until=section.until, smoothing=section.smoothing)
    return wide, Pruning(pruner=pruner, student=student)


def _train(
    recipe: Recipe,
    data: Prepared,
    teacher: Path,
    teacher_outputs: TeacherOutputs,
    weights: tuple[float, ...],
    folder: Path,
    until: int,
    *,
    on_epoch: Callable[[Epoch], None],
    on_progress: ProgressCallback,
) -> Trial:
    """Train one student up to an epoch, into `folder`, and return its trial."""
    configs = recipe.student.objectives
    network, pruning = initial_student(recipe, data, teacher)
    home = folder.parent.parent  # beside the work of students, for all of them
    context = objective_context(recipe, data, teacher, teacher_outputs, network, home, on_progress)
    student = distill(
        network,
        teacher_outputs,
        data,
        _objectives(configs, weights, context),
        recipe.student.training,
        plan=context.plan,
        seed=recipe.seed,
        outputs=RunOutputs(
            checkpoint=folder / "student.ckpt",
            tensorboard=folder.parent / "tensorboard" / folder.name,
        ),
        on_epoch=on_epoch,
        pruning=pruning,
        until=until,
    )
    networks.save(student.network, recipe.student.network, data, student.history, folder)
    names = [config.name for config in configs]
    return student.trial(dict(zip(names, weights, strict=True)))


def _objectives(
    configs: Sequence[ObjectiveConfig], weights: Sequence[float], context: ObjectiveContext
) -> list[WeightedObjective]:
    return [
        WeightedObjective(
            objective=build_objective(config, context),
            weight=weight,
            start=config.start,
            ramp=config.ramp,
        )
        for config, weight in zip(configs, weights, strict=True)
    ]


def _first_choice(recipe: Recipe) -> int:
    """Return after how many epochs `fit` begins to choose weights."""
    section = recipe.student
    narrow = 0.0 if section.prune_from_teacher is None else section.prune_from_teacher.until
    joined = max(narrow, *(min(1.0, term.start + term.ramp) for term in section.objectives))
    epochs = section.training.epochs
    return next((done for done in range(epochs) if done / epochs >= joined), epochs - 1)


def _progress_name(index: int, number: int, stages: list[HalvingStage]) -> str:
    """Return the name under which a candidate's training is reported."""
    count = stages[0].candidates
    name = "distill" if count == 1 else f"distill {index + 1} of {count}"
    return name if len(stages) == 1 else f"{name}, rung {number + 1} of {len(stages)}"
