"""The terms of a student's loss: cross-entropy, and what is distilled from a teacher.

An objective is a module, so that the teacher's outputs it holds move to the training device with
it. All objectives share one clean forward: each names the windows, views and layers it needs, and
the loop returns how the windows change the student's logits.
"""

from edgedistill.distillation.configs.config import ObjectiveConfig
from edgedistill.distillation.objectives.cross_entropy import CrossEntropy
from edgedistill.distillation.objectives.cutmix_kd import CutMixKD
from edgedistill.distillation.objectives.kd import KD
from edgedistill.distillation.objectives.multi_width import MultiWidthObjective
from edgedistill.distillation.objectives.objective import (
    Batch,
    Objective,
    StudentOutputs,
    ViewOutputs,
    WeightedObjective,
    Windows,
    build_objective,
)
from edgedistill.distillation.objectives.tsd import TSD
from edgedistill.distillation.objectives.tsd_maps import TSDMaps

__all__ = [
    "KD",
    "TSD",
    "Batch",
    "CrossEntropy",
    "CutMixKD",
    "MultiWidthObjective",
    "Objective",
    "ObjectiveConfig",
    "StudentOutputs",
    "TSDMaps",
    "ViewOutputs",
    "WeightedObjective",
    "Windows",
    "build_objective",
]
