"""Intermediate heads: the student learns from a cohort, what the teacher knows at every depth."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from edgedistill.distillation.objectives.objective import Batch, Objective, StudentOutputs


class DIH(Objective):
    """Knowledge distillation from several heads of a frozen teacher, the mean over the heads.

    As published: linear heads at layers of the frozen teacher, and the teacher's own answer
    is one of the cohort. Our choices: all heads count alike; they are logistic regressions on
    the mean over time (see `heads`); where they stand.

    Source: Asadian and Salehi-Abari 2021, arXiv:2103.00497.
    """

    cohort: Tensor

    def __init__(self, cohort: Tensor, *, temperature: float) -> None:
        """Keep what all heads say of all known series.

        Args:
            cohort: logits, (heads, M, K).
            temperature: of all.
        """
        super().__init__()
        self.register_buffer("cohort", cohort, persistent=False)
        self._temperature = temperature

    def forward(self, batch: Batch, outputs: StudentOutputs) -> Tensor:
        """Return the loss, a scalar."""
        taught = functional.log_softmax(self.cohort[:, batch.rows] / self._temperature, dim=-1)
        student = functional.log_softmax(outputs.logits / self._temperature, dim=-1)
        divergence = functional.kl_div(
            student.expand_as(taught).flatten(0, 1),
            taught.flatten(0, 1),
            log_target=True,
            reduction="batchmean",
        )
        return divergence * self._temperature**2
