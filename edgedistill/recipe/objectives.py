"""The objectives that a recipe can name, one config each; `name` chooses among them."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from edgedistill.distillation.objectives.baselines.ablation_controls import (
    RandomSaliencyConfig,
    RandomTeacherConfig,
    ShuffledSaliencyConfig,
)
from edgedistill.distillation.objectives.baselines.attention import AttentionConfig
from edgedistill.distillation.objectives.baselines.crd import CRDConfig
from edgedistill.distillation.objectives.baselines.dih import DIHConfig
from edgedistill.distillation.objectives.baselines.dist import DISTConfig
from edgedistill.distillation.objectives.baselines.dkd import DKDConfig
from edgedistill.distillation.objectives.baselines.dt2w import DT2WConfig
from edgedistill.distillation.objectives.baselines.e2kd import E2KDConfig
from edgedistill.distillation.objectives.baselines.ensemble import EnsembleConfig
from edgedistill.distillation.objectives.baselines.fitnets import FitNetsConfig
from edgedistill.distillation.objectives.baselines.memkd import MemKDConfig
from edgedistill.distillation.objectives.baselines.ranking import RankingConfig
from edgedistill.distillation.objectives.baselines.rkd import RKDConfig
from edgedistill.distillation.objectives.baselines.sp import SPConfig
from edgedistill.distillation.objectives.baselines.sskd import SSKDConfig
from edgedistill.distillation.objectives.baselines.vid import VIDConfig
from edgedistill.distillation.objectives.baselines.xdistillation import XDistillationConfig
from edgedistill.distillation.objectives.cross_entropy import CrossEntropyConfig
from edgedistill.distillation.objectives.cutmix_kd import CutMixKDConfig
from edgedistill.distillation.objectives.kd import KDConfig
from edgedistill.distillation.objectives.tsd import TSDConfig
from edgedistill.distillation.objectives.tsd_maps import TSDMapsConfig

ObjectiveSection = Annotated[
    CrossEntropyConfig
    | KDConfig
    | TSDConfig
    | CutMixKDConfig
    | TSDMapsConfig
    | FitNetsConfig
    | AttentionConfig
    | VIDConfig
    | DT2WConfig
    | MemKDConfig
    | SSKDConfig
    | DIHConfig
    | DKDConfig
    | DISTConfig
    | RKDConfig
    | SPConfig
    | CRDConfig
    | E2KDConfig
    | RankingConfig
    | EnsembleConfig
    | XDistillationConfig
    | ShuffledSaliencyConfig
    | RandomTeacherConfig
    | RandomSaliencyConfig,
    Field(discriminator="name"),
]
