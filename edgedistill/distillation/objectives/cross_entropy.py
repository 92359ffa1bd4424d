"""Cross-entropy with the labels, the objective of a plain student and of a teacher."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from edgedistill.distillation.objectives.objective import Batch, Objective, StudentOutputs


class CrossEntropy(Objective):
    """The mean cross-entropy with the labels."""

    def forward(self, batch: Batch, outputs: StudentOutputs) -> Tensor:
        """Return the loss, a scalar."""
        return functional.cross_entropy(outputs.logits, batch.labels)
