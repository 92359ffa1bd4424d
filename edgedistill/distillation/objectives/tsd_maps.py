"""Temporal saliency distillation of whole maps: the schedule we recommend.

Our own variant of arXiv:2601.04263. The published term compares a few random
windows; this one compares the map over the whole series that the contract will
judge later. The perturbed copies do not change, so the teacher is asked once.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from edgedistill.attribution import correlation, timestep_map
from edgedistill.distillation.objectives.maps import MapObjective
from edgedistill.distillation.objectives.objective import Batch, StudentOutputs
from edgedistill.saliency.occlusion import Explanation
from edgedistill.saliency.perturbation import PerturbationPlan

Over = Literal["windows", "timesteps"]


class TSDMaps(MapObjective):
    """`1 - Pearson` between the signed maps of student and teacher, mean over series.

    Correlation has no scale, so a student may be less certain than its teacher as
    long as it weighs the same windows, or time steps, the same way.
    """

    def __init__(
        self, teacher: Explanation, plan: PerturbationPlan, *, over: Over = "windows"
    ) -> None:
        """Keep the teacher's maps for all known series.

        Args:
            teacher: explanation of the M known series under `plan`.
            plan: the grid of windows and their baseline.
            over: what is compared: scores of windows, or for each time step the mean of the
                windows that cover it.

        Raises:
            ShapeError: the maps were made under another plan.
        """
        super().__init__(teacher, plan)
        self._over = over

    def forward(self, batch: Batch, outputs: StudentOutputs) -> Tensor:
        """Return the loss, a scalar."""
        student, teacher = self.maps(batch, outputs)
        if self._over == "timesteps":
            student, teacher = self._spread(student), self._spread(teacher)
        return (1 - correlation(student, teacher)).mean()

    def _spread(self, scores: Tensor) -> Tensor:
        """Return window scores (N, W) over time, (N, T)."""
        plan = self._plan
        return timestep_map(scores, self.starts[0], width=plan.width, length=plan.length)
