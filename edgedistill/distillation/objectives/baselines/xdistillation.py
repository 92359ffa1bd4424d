"""XDistillation: predict the teacher's saliency map from the series."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from edgedistill.distillation.features import EXPLANATION
from edgedistill.distillation.objectives.maps import check_plan
from edgedistill.distillation.objectives.objective import Batch, Objective, StudentOutputs
from edgedistill.saliency.occlusion import Explanation, time_map
from edgedistill.saliency.perturbation import PerturbationPlan


class XDistillation(Objective):
    """Mean squared error between the map that the student predicts and its teacher's.

    The student is a `SelfExplainingNetwork`: the map is an output of its own, not what windows
    change in its logits, so it predicts the teacher's saliency. To match the student's own
    saliency too, add `tsd` or `tsd_maps`.

    From the paper: post-hoc explanations of the teacher, computed beforehand, are approximated
    by a convolutional autoencoder that is trained along with the student. Our choices: perturbation
    saliency in place of SHAP and its like; the signed map of the class that the teacher
    predicts; spread over the time steps and divided by its root mean square, so that a map of
    zeros costs 1 whatever the teacher's scale; and the squared error. The layout of the network
    is in `models.explained`.

    Source: "Learning Interpretation with Explainable Knowledge Distillation",
    arXiv:2111.06945, IEEE BigData 2021.
    """

    layers = (EXPLANATION,)
    teacher_map: Tensor

    def __init__(self, teacher: Explanation, plan: PerturbationPlan) -> None:
        """Keep the teacher's normalized maps of all series.

        Args:
            teacher: explanation of the M series under `plan`.
            plan: grid of windows.

        Raises:
            ShapeError: the maps have another number of windows than the plan.
        """
        super().__init__()
        check_plan(teacher, plan)
        self.register_buffer("teacher_map", normalized_map(teacher, plan), persistent=False)

    def forward(self, batch: Batch, outputs: StudentOutputs) -> Tensor:
        """Return the loss, a scalar."""
        predicted = outputs.features[EXPLANATION].float()
        return functional.mse_loss(predicted, self.teacher_map[batch.rows])


def normalized_map(explanation: Explanation, plan: PerturbationPlan) -> Tensor:
    """Return signed maps over time, (N, T), each divided by its root mean square.

    A positive step supports the class that is explained. A map of zeros stays one.
    """
    signed = torch.from_numpy(time_map(explanation.signed, plan))  # (N, W) -> (N, T)
    size = signed.square().mean(dim=1, keepdim=True).sqrt()
    return signed / torch.where(size > 0, size, 1.0)
