"""Temporal saliency distillation of whole maps: the schedule we recommend.

Our own variant of arXiv:2601.04263. The published term compares a few random
windows; this one compares the map over the whole series that the contract will
judge later. The perturbed copies do not change, so the teacher is asked once.
"""

from __future__ import annotations

import torch
from torch import Tensor

from edgedistill.distill.objectives.objective import Answer, Batch, Objective, Windows
from edgedistill.errors import ShapeError
from edgedistill.occlusion import Explanation
from edgedistill.perturbation import PerturbationPlan, fill
from edgedistill.saliency import correlation, signed_fall


class TSDMaps(Objective):
    """`1 - Pearson` between the signed maps of student and teacher, mean over series.

    Correlation has no scale, so a student may be less certain than its teacher as
    long as it weighs the same windows the same way.
    """

    teacher_map: Tensor
    targets: Tensor
    starts: Tensor

    def __init__(self, teacher: Explanation, plan: PerturbationPlan) -> None:
        """Keep the teacher's maps for all known series.

        Args:
            teacher: explanation of the M known series under `plan`.
            plan: the grid of windows and their baseline.

        Raises:
            ShapeError: the maps were made under another plan.
        """
        super().__init__()
        if teacher.signed.shape[1] != len(plan.starts):
            raise ShapeError(
                f"The teacher's maps have {teacher.signed.shape[1]} windows, the plan has "
                f"{len(plan.starts)}. Explain the teacher under the plan that is trained on."
            )
        self._plan = plan
        self.register_buffer("teacher_map", torch.from_numpy(teacher.signed), persistent=False)
        targets = torch.from_numpy(teacher.logits.argmax(axis=1))
        self.register_buffer("targets", targets, persistent=False)
        self.register_buffer("starts", torch.from_numpy(plan.starts)[None], persistent=False)

    def windows(self, batch: Batch) -> Windows:
        """Return the windows of the plan."""
        patches = torch.from_numpy(fill(self._plan, batch.series.cpu().numpy()))
        return Windows(self.starts, patches.to(batch.series.device))

    def forward(self, batch: Batch, answer: Answer) -> Tensor:
        """Return the loss, a scalar."""
        _, changes = answer.perturbed()
        student = signed_fall(changes, self.targets[batch.rows])
        return (1 - correlation(student, self.teacher_map[batch.rows])).mean()
