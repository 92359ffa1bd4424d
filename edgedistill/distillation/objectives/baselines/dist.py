"""DIST: the relations among classes and among series, as correlations."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from edgedistill.attribution import correlation
from edgedistill.distillation.objectives.objective import Batch, Objective, StudentOutputs


class DIST(Objective):
    """`temperature**2 * (beta * (1 - Pearson of rows) + gamma * (1 - Pearson of columns))`.

    Of the class probabilities of a batch: a row is a series, a column a class. With two
    classes a row's correlation is 1 or -1, so only the columns have a gradient. A constant row or
    column, as of a batch of one, correlates with nothing: it costs 1 and has no gradient.
    The temperature, and its square before the loss, are those of the published code.

    Source: Huang et al. 2022, arXiv:2205.10536.
    """

    teacher: Tensor

    def __init__(self, teacher: Tensor, *, beta: float, gamma: float, temperature: float) -> None:
        """Keep the teacher's logits of all series.

        Args:
            teacher: logits of the teacher, (M, K).
            beta: weight of the relations among the classes of a series.
            gamma: weight of the relations among the series of a batch.
            temperature: softmax temperature of student and teacher.
        """
        super().__init__()
        self.register_buffer("teacher", teacher, persistent=False)
        self._beta, self._gamma, self._temperature = beta, gamma, temperature

    def forward(self, batch: Batch, outputs: StudentOutputs) -> Tensor:
        """Return the loss, a scalar."""
        student = functional.softmax(outputs.logits / self._temperature, dim=1)
        teacher = functional.softmax(self.teacher[batch.rows] / self._temperature, dim=1)
        classes = (1 - correlation(student, teacher)).mean()
        series = (1 - correlation(student.T, teacher.T)).mean()
        return (self._beta * classes + self._gamma * series) * self._temperature**2
