"""Knowledge distillation: the student copies the teacher's softened class distribution."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from edgedistill.distillation.objectives.objective import Batch, Objective, StudentOutputs


class KD(Objective):
    """`temperature**2 * KL(teacher || student)` at a temperature.

    Source: Hinton et al. 2015, arXiv:1503.02531.
    """

    teacher: Tensor

    def __init__(self, teacher: Tensor, *, temperature: float) -> None:
        """Keep the teacher's logits of all series, (M, K)."""
        super().__init__()
        self.register_buffer("teacher", teacher, persistent=False)
        self.temperature = temperature

    def forward(self, batch: Batch, outputs: StudentOutputs) -> Tensor:
        """Return the loss, a scalar."""
        return softened_kl(outputs.logits, self.teacher[batch.rows], self.temperature)


def softened_kl(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Return `temperature**2 * KL(teacher || student)` of logits (M, K), the mean over M."""
    divergence = functional.kl_div(
        functional.log_softmax(student / temperature, dim=-1),
        functional.log_softmax(teacher / temperature, dim=-1),
        log_target=True,
        reduction="batchmean",
    )
    return divergence * temperature**2
