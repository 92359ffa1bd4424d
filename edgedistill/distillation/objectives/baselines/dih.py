"""Intermediate heads: distill from linear classifiers at several depths of the teacher."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from edgedistill.distillation.context import ObjectiveContext
from edgedistill.distillation.features import TeacherFeatures, default_layers, layer_channels
from edgedistill.distillation.heads import evenly_spaced_layers, head_logits
from edgedistill.distillation.objectives.config import ObjectiveConfig
from edgedistill.distillation.objectives.objective import Batch, Objective, StudentOutputs


class DIHConfig(ObjectiveConfig):
    """Knowledge distillation from linear heads at the teacher's layers, and from the teacher."""

    name: Literal["dih"]
    temperature: float = Field(5.0, gt=0)
    heads: int = Field(2, ge=1)  # at evenly spaced layers

    def build(self, context: ObjectiveContext) -> DIH:
        teacher = context.teacher_network(self.name)
        channels = layer_channels(teacher, context.data.sample)
        default_layers(channels)  # refuses a network without layers over time, by name
        layers = evenly_spaced_layers(list(channels), self.heads)
        heads = head_logits(TeacherFeatures(teacher, layers), layers, context.data)
        return DIH(torch.cat([heads, context.logits[None]]), temperature=self.temperature)


class DIH(Objective):
    """Knowledge distillation from several heads of a frozen teacher, the mean over the heads.

    As published: linear heads at layers of the frozen teacher, and the teacher's own logits
    are one of the cohort. Our choices: all heads count alike; they are logistic regressions on
    the mean over time (see `heads`); where they stand.

    Source: Asadian and Salehi-Abari 2021, arXiv:2103.00497.
    """

    cohort: Tensor

    def __init__(self, cohort: Tensor, *, temperature: float) -> None:
        """Keep the logits of all heads for all series.

        Args:
            cohort: logits of the heads, (heads, M, K).
            temperature: softmax temperature of heads and student.
        """
        super().__init__()
        self.register_buffer("cohort", cohort, persistent=False)
        self._temperature = temperature

    def forward(self, batch: Batch, outputs: StudentOutputs) -> Tensor:
        """Return the loss, a scalar."""
        teacher = functional.log_softmax(self.cohort[:, batch.rows] / self._temperature, dim=-1)
        student = functional.log_softmax(outputs.logits / self._temperature, dim=-1)
        divergence = functional.kl_div(
            student.expand_as(teacher).flatten(0, 1),
            teacher.flatten(0, 1),
            log_target=True,
            reduction="batchmean",
        )
        return divergence * self._temperature**2
