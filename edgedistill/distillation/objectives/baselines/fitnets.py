"""FitNets: regress the teacher's hidden layer from the student's."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from edgedistill.distillation.features import Pair
from edgedistill.distillation.objectives.baselines.layers import LayerObjective
from edgedistill.distillation.objectives.objective import Batch, StudentOutputs


class FitNets(LayerObjective):
    """Mean squared error between a regressor of the student's layer and the teacher's layer.

    As published: a hint half way through, a regressor that is trained with the student. Our
    choices: the regressor is a convolution of one step and has no activation, and the hint is
    one term beside the others; published are two stages, the hint alone first.

    Source: Romero et al. 2015, arXiv:1412.6550, equation 3.
    """

    def __init__(self, pair: Pair) -> None:
        """Start with a random regressor.

        Args:
            pair: the layers, (N, C', T') and (N, C'', T').
        """
        super().__init__(pair)
        self.regressor = nn.Conv1d(pair.student_channels, pair.teacher_channels, 1)

    def forward(self, batch: Batch, outputs: StudentOutputs) -> Tensor:
        """Return the loss, a scalar."""
        student, teacher = self.layer_outputs(batch, outputs)
        return functional.mse_loss(self.regressor(student), teacher)
