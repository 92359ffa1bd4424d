"""A student that starts as its teacher and is pruned to its own width while it learns."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from edgedistill.data import Prepared
from edgedistill.errors import ConfigError
from edgedistill.pipeline import networks
from edgedistill.recipe.recipe import Recipe
from edgedistill.training.pruning import Pruner, extract_student


def initial_student(
    recipe: Recipe, data: Prepared, teacher: Path
) -> tuple[nn.Module, Pruner | None]:
    """Return the network that a student's training begins with, and what prunes it on the way.

    Args:
        recipe: names the student, and whether it is pruned from its teacher.
        data: decides the shape of the network.
        teacher: folder of the teacher stage.

    Raises:
        ConfigError: it is to be pruned, and the teacher of the folder is not one of ours, or
            not a wider version of the student.
    """
    student = networks.build_untrained(recipe.student, data, seed=recipe.seed)
    section = recipe.student.prune_from_teacher
    if section is None:
        return student, None
    if not (teacher / networks.FACTS).exists():
        raise ConfigError(
            f"prune_from_teacher starts from a teacher that was trained here, and {teacher} holds "
            "a brought one. Leave teacher.source out, or leave prune_from_teacher out."
        )
    wide, _ = networks.open_network(teacher)
    pruner = Pruner(wide, student, until=section.until, smoothing=section.smoothing)
    return wide, pruner


def finalize_student(model: nn.Module, recipe: Recipe, data: Prepared) -> nn.Module:
    """Return what was trained as a plain network of the recipe's width, with the same answers."""
    if recipe.student.prune_from_teacher is None:
        return model
    return extract_student(
        model, networks.build_untrained(recipe.student, data, seed=recipe.seed)
    ).eval()
