"""Explanation-enhanced distillation: match the saliency maps by cosine."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from edgedistill.distillation.objectives.maps import MapObjective
from edgedistill.distillation.objectives.objective import Batch, StudentOutputs


class E2KD(MapObjective):
    """`1 - cosine` between the maps of student and teacher, both of the teacher's class.

    The loss is the paper's. It explains with GradCAM, or with the weights of B-cos networks,
    which are images of where a network looks; the maps here are our choice: signed occlusion
    maps under the shared plan, which every classifier has. Unlike `TSDMaps` the cosine
    keeps the level of a map: how far all windows together support the class.

    Source: Parchami-Araghi et al. 2024, arXiv:2402.03119.
    """

    def forward(self, batch: Batch, outputs: StudentOutputs) -> Tensor:
        """Return the loss, a scalar between 0 and 2."""
        student, teacher = self.maps(batch, outputs)
        return (1 - functional.cosine_similarity(student, teacher, dim=1)).mean()
