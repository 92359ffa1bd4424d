"""The objectives that a recipe can name, one config each; `name` chooses among them."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from edgedistill.distillation.configs.baselines import (
    DIHConfig,
    DISTConfig,
    DKDConfig,
    E2KDConfig,
    EnsembleConfig,
    RandomSaliencyConfig,
    RandomTeacherConfig,
    RankingConfig,
    ShuffledSaliencyConfig,
    XDistillationConfig,
)
from edgedistill.distillation.configs.layers import (
    AttentionConfig,
    CRDConfig,
    DT2WConfig,
    FitNetsConfig,
    MemKDConfig,
    RKDConfig,
    SPConfig,
    SSKDConfig,
    VIDConfig,
)
from edgedistill.distillation.configs.objectives import (
    CrossEntropyConfig,
    CutMixKDConfig,
    KDConfig,
    TSDConfig,
    TSDMapsConfig,
)

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
