"""What makes a teacher student-friendly: branches of the student that the recipe names."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from edgedistill.data import Prepared
from edgedistill.distillation.objectives import WeightedObjective
from edgedistill.pipeline import networks
from edgedistill.pipeline.keys import plain_student
from edgedistill.recipe.recipe import Recipe


def branch_terms(recipe: Recipe, data: Prepared, teacher: nn.Module) -> list[WeightedObjective]:
    """Return what a teacher learns besides its labels: nothing, unless the recipe asks for it.

    Raises:
        ConfigError: teacher or student has no stages to branch from.
    """
    config = recipe.teacher.student_friendly
    if config is None:
        return []
    plain = plain_student(recipe)
    objective = config.build(
        teacher,
        lambda seed: networks.build_untrained(plain, data, seed=seed),
        torch.from_numpy(np.resize(data.train.x, (2, *data.train.x.shape[1:]))),
        seed=recipe.seed,
    )
    return [WeightedObjective(objective=objective)]
