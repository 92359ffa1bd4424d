"""What a student is asked for: cross-entropy, and what it should take over from its teacher.

An objective is a module, so that what it knows of the teacher moves to the
training device with it. All of them share one clean pass: each names the windows
it wants answered, and the loop hands it how they change the student's logits.
"""

from edgedistill.distillation.objectives.baselines.attention import AttentionTransfer
from edgedistill.distillation.objectives.baselines.crd import CRD
from edgedistill.distillation.objectives.baselines.dih import DIH
from edgedistill.distillation.objectives.baselines.dist import DIST
from edgedistill.distillation.objectives.baselines.dkd import DKD
from edgedistill.distillation.objectives.baselines.dt2w import DT2W
from edgedistill.distillation.objectives.baselines.e2kd import E2KD
from edgedistill.distillation.objectives.baselines.ensemble import Ensemble
from edgedistill.distillation.objectives.baselines.fitnets import FitNets
from edgedistill.distillation.objectives.baselines.memkd import MemKD
from edgedistill.distillation.objectives.baselines.ranking import Ranking
from edgedistill.distillation.objectives.baselines.rkd import RKD
from edgedistill.distillation.objectives.baselines.sp import SP
from edgedistill.distillation.objectives.baselines.sskd import SSKD
from edgedistill.distillation.objectives.baselines.student_friendly import StudentFriendly
from edgedistill.distillation.objectives.baselines.vid import VID
from edgedistill.distillation.objectives.baselines.xdistillation import (
    XDistillation,
    normalized_map,
)
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
    check_ramp,
)
from edgedistill.distillation.objectives.tsd import TSD
from edgedistill.distillation.objectives.tsd_maps import TSDMaps

__all__ = [
    "CRD",
    "DIH",
    "DIST",
    "DKD",
    "DT2W",
    "E2KD",
    "KD",
    "RKD",
    "SP",
    "SSKD",
    "TSD",
    "VID",
    "AttentionTransfer",
    "Batch",
    "CrossEntropy",
    "CutMixKD",
    "Ensemble",
    "FitNets",
    "MemKD",
    "MultiWidthObjective",
    "Objective",
    "Ranking",
    "StudentFriendly",
    "StudentOutputs",
    "TSDMaps",
    "ViewOutputs",
    "WeightedObjective",
    "Windows",
    "XDistillation",
    "check_ramp",
    "normalized_map",
]
