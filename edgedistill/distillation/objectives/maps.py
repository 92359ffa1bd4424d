"""Objectives that compare the saliency map of a student with that of its teacher."""

from __future__ import annotations

import torch
from torch import Tensor

from edgedistill.attribution import signed_fall
from edgedistill.distillation.objectives.objective import Batch, Objective, StudentOutputs, Windows
from edgedistill.errors import ShapeError
from edgedistill.saliency.occlusion import Explanation
from edgedistill.saliency.perturbation import PerturbationPlan, baseline_patches


class MapObjective(Objective):
    """A loss of whole signed maps under the plan of the contract.

    Both maps are of the teacher's class. The perturbed copies do not change, so the teacher
    runs on them once.
    """

    teacher_map: Tensor
    targets: Tensor
    starts: Tensor

    def __init__(self, teacher: Explanation, plan: PerturbationPlan) -> None:
        """Keep the teacher's maps of all series.

        Args:
            teacher: explanation of the M series under `plan`.
            plan: grid of windows and their baseline.

        Raises:
            ShapeError: the maps have another number of windows than the plan.
        """
        super().__init__()
        check_plan(teacher, plan)
        self._plan = plan
        self.register_buffer("teacher_map", torch.from_numpy(teacher.signed), persistent=False)
        targets = torch.from_numpy(teacher.logits.argmax(axis=1))
        self.register_buffer("targets", targets, persistent=False)
        self.register_buffer("starts", torch.from_numpy(plan.starts)[None], persistent=False)

    def windows(self, batch: Batch) -> Windows:
        """Return the windows of the plan."""
        patches = torch.from_numpy(baseline_patches(self._plan, batch.series.cpu().numpy()))
        return Windows(self.starts, patches.to(batch.series.device))

    def maps(self, batch: Batch, outputs: StudentOutputs) -> tuple[Tensor, Tensor]:
        """Return the signed maps of the student and of the teacher, (N, W) each."""
        _, changes = outputs.perturbed()
        return signed_fall(changes, self.targets[batch.rows]), self.teacher_map[batch.rows]


def check_plan(teacher: Explanation, plan: PerturbationPlan) -> None:
    """Refuse maps of another plan.

    Raises:
        ShapeError: they have another number of windows.
    """
    if teacher.signed.shape[1] != len(plan.starts):
        raise ShapeError(
            f"The teacher's maps have {teacher.signed.shape[1]} windows, the plan has "
            f"{len(plan.starts)}. Explain the teacher under the plan that is trained on."
        )
