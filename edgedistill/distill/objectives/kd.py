"""Knowledge distillation: the student copies the teacher's softened class distribution."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from edgedistill.distill.objectives.objective import Answer, Batch, Objective


class KD(Objective):
    """`temperature**2 * KL(teacher || student)` at a temperature.

    Source: Hinton et al. 2015, arXiv:1503.02531.
    """

    teacher: Tensor

    def __init__(self, teacher: Tensor, *, temperature: float) -> None:
        """Keep the teacher's logits for all known series, (M, K)."""
        super().__init__()
        self.register_buffer("teacher", teacher, persistent=False)
        self.temperature = temperature

    def forward(self, batch: Batch, answer: Answer) -> Tensor:
        """Return the loss, a scalar."""
        student = functional.log_softmax(answer.logits / self.temperature, dim=-1)
        teacher = functional.log_softmax(self.teacher[batch.rows] / self.temperature, dim=-1)
        divergence = functional.kl_div(student, teacher, log_target=True, reduction="batchmean")
        return divergence * self.temperature**2
