"""Alignment of layers: the student's layer goes through what the teacher's goes through."""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from edgedistill.distillation.context import ObjectiveContext
from edgedistill.distillation.features import Pair
from edgedistill.distillation.objectives.baselines.layers import LayerConfig, LayerObjective
from edgedistill.distillation.objectives.objective import Batch, StudentOutputs
from edgedistill.distillation.soft_dtw import soft_dtw


class DT2WConfig(LayerConfig):
    """Soft-DTW between what layers give over time."""

    name: Literal["dt2w"]
    gamma: float = Field(1.2, gt=0)  # how soft the minimum over warpings is
    steps: int = Field(64, ge=1)  # that are compared; longer sequences are averaged down

    def build(self, context: ObjectiveContext) -> DT2W:
        return DT2W(self.layer_pair(context), gamma=self.gamma, steps=self.steps)


class DT2W(LayerObjective):
    """Soft-DTW between what the layers give over time: the same shapes, if a little earlier.

    As published: soft-DTW of feature maps with the squared distance of two steps. Our choices:
    a trained convolution of one step where the student has fewer or more channels, sequences
    averaged down to at most `steps` because the cost grows with their square, and the value
    divided by the steps, so that its weight does not depend on them. It may be negative, and
    it is not lowest at the teacher's own sequence: soft-DTW prefers one a little smoother.

    Source: Qiao et al. 2023, "Class-Incremental Learning on Multivariate Time Series Via
    Shape-Aligned Temporal Distillation" (ICASSP); Cuturi and Blondel 2017, arXiv:1703.01541.
    """

    def __init__(self, pair: Pair, *, gamma: float, steps: int) -> None:
        """Begin with a random projection, if one is needed.

        Args:
            pair: the layers, (N, C', T') and (N, C'', T').
            gamma: how soft the minimum over warpings is; above 0.
            steps: that are compared at most.
        """
        super().__init__(pair)
        widths = pair.student_channels, pair.teacher_channels
        same = widths[0] == widths[1]
        self.projection: nn.Module = nn.Identity() if same else nn.Conv1d(*widths, 1)
        self._gamma, self._steps = gamma, steps

    def forward(self, batch: Batch, outputs: StudentOutputs) -> Tensor:
        """Return the loss, a scalar."""
        student, teacher = self.layer_outputs(batch, outputs)
        steps = min(self._steps, student.shape[2])
        student, teacher = (
            functional.adaptive_avg_pool1d(output, steps) for output in (student, teacher)
        )
        return soft_dtw(self.projection(student), teacher, gamma=self._gamma).mean() / steps
