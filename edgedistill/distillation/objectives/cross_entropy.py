"""Cross-entropy with the labels, the objective of a plain student and of a teacher."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from edgedistill.distillation.objectives.objective import Batch, Objective, StudentOutputs


class CrossEntropy(Objective):
    """The mean cross-entropy with the labels, over the labeled series of a batch."""

    def forward(self, batch: Batch, outputs: StudentOutputs) -> Tensor:
        """Return the loss, a scalar."""
        if batch.labeled is None:
            return functional.cross_entropy(outputs.logits, batch.labels)
        losses = functional.cross_entropy(outputs.logits, batch.labels, reduction="none")
        return (losses * batch.labeled).sum() / batch.labeled.sum().clamp(min=1)
