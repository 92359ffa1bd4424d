"""What makes a teacher student-friendly: branches of the student that the recipe names."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from edgedistill.data import Prepared
from edgedistill.distillation import seeds
from edgedistill.distillation.objectives import WeightedObjective
from edgedistill.distillation.objectives.baselines.student_friendly import StudentFriendly
from edgedistill.distillation.student_branches import branch_layers, branches
from edgedistill.pipeline import networks
from edgedistill.pipeline.keys import plain_student
from edgedistill.recipe.recipe import Recipe


def branch_terms(recipe: Recipe, data: Prepared, teacher: nn.Module) -> list[WeightedObjective]:
    """Return what a teacher learns besides its labels: nothing, unless the recipe asks for it.

    Raises:
        ConfigError: teacher or student has no stages to branch from.
    """
    section = recipe.teacher.student_friendly
    if section is None:
        return []
    plain = plain_student(recipe)
    count = len(branch_layers(teacher, networks.build_untrained(plain, data, seed=recipe.seed)))
    students = [
        networks.build_untrained(plain, data, seed=recipe.seed + seeds.BRANCHES + index)
        for index in range(count)
    ]
    sample = torch.from_numpy(np.resize(data.train.x, (2, *data.train.x.shape[1:])))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed + seeds.BRANCH_ADAPTERS)
        found = branches(teacher, students, sample)
    objective = StudentFriendly(
        found,
        cross_entropy=section.cross_entropy,
        kl=section.kl,
        temperature=section.temperature,
    )
    return [WeightedObjective(objective=objective)]
