"""Cross-entropy with the labels, the objective of a plain student and of a teacher."""

from __future__ import annotations

from typing import Literal

from torch import Tensor
from torch.nn import functional

from edgedistill.distillation.context import ObjectiveContext
from edgedistill.distillation.objectives.objective import (
    Batch,
    Objective,
    ObjectiveConfig,
    StudentOutputs,
)


class CrossEntropyConfig(ObjectiveConfig):
    """Cross-entropy with the labels."""

    name: Literal["cross_entropy"]

    def build(self, context: ObjectiveContext) -> CrossEntropy:
        del context
        return CrossEntropy()


class CrossEntropy(Objective):
    """The mean cross-entropy with the labels."""

    def forward(self, batch: Batch, outputs: StudentOutputs) -> Tensor:
        """Return the loss, a scalar."""
        return functional.cross_entropy(outputs.logits, batch.labels)
