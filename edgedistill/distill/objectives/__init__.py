"""What a student is asked for: cross-entropy, and what it should take over from its teacher.

An objective is a module, so that what it knows of the teacher moves to the
training device with it. All of them share one clean pass: each names the windows
it wants answered, and the loop hands it how they change the student's logits.
"""

from edgedistill.distill.objectives.attention import AttentionTransfer
from edgedistill.distill.objectives.crd import CRD
from edgedistill.distill.objectives.cross_entropy import CrossEntropy
from edgedistill.distill.objectives.cutmix_kd import CutMixKD
from edgedistill.distill.objectives.dih import DIH
from edgedistill.distill.objectives.dist import DIST
from edgedistill.distill.objectives.dkd import DKD
from edgedistill.distill.objectives.dt2w import DT2W
from edgedistill.distill.objectives.e2kd import E2KD
from edgedistill.distill.objectives.ensemble import Ensemble
from edgedistill.distill.objectives.fitnets import FitNets
from edgedistill.distill.objectives.kd import KD
from edgedistill.distill.objectives.memkd import MemKD
from edgedistill.distill.objectives.objective import (
    Answer,
    Batch,
    Objective,
    Seen,
    Term,
    Windows,
    check_ramp,
)
from edgedistill.distill.objectives.ranking import Ranking
from edgedistill.distill.objectives.rkd import RKD
from edgedistill.distill.objectives.scales import Scales
from edgedistill.distill.objectives.sp import SP
from edgedistill.distill.objectives.sskd import SSKD
from edgedistill.distill.objectives.student_friendly import StudentFriendly
from edgedistill.distill.objectives.tsd import TSD
from edgedistill.distill.objectives.tsd_maps import TSDMaps
from edgedistill.distill.objectives.vid import VID
from edgedistill.distill.objectives.xdistillation import XDistillation, normalized_map

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
    "Answer",
    "AttentionTransfer",
    "Batch",
    "CrossEntropy",
    "CutMixKD",
    "Ensemble",
    "FitNets",
    "MemKD",
    "Objective",
    "Ranking",
    "Scales",
    "Seen",
    "StudentFriendly",
    "TSDMaps",
    "Term",
    "Windows",
    "XDistillation",
    "check_ramp",
    "normalized_map",
]
