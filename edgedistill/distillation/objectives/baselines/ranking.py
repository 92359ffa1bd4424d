"""Ranking distillation: match the order of the most important windows."""

from __future__ import annotations

from torch import Tensor

from edgedistill.attribution import plackett_luce
from edgedistill.distillation.objectives.maps import MapObjective
from edgedistill.distillation.objectives.objective import Batch, StudentOutputs
from edgedistill.saliency.occlusion import Explanation
from edgedistill.saliency.perturbation import PerturbationPlan


class Ranking(MapObjective):
    """Negative log-likelihood of the teacher's first windows under the student's map.

    The Plackett-Luce likelihood of a ranking whose first places are drawn in order and whose
    rest is not ordered, as relaxed ranking distillation defines it for the items of a
    recommender. Here the items are windows and the scores are signed maps (our choice), and
    the logarithms are averaged over the places, so that the weight fits any number of windows.
    A loss of 0 would take infinite distances between the scores.

    Source: Kang et al. 2020 (DE-RRD), arXiv:2012.04357, relaxed ranking distillation.
    """

    def __init__(self, teacher: Explanation, plan: PerturbationPlan, *, top: float) -> None:
        """Keep the teacher's maps of all series.

        Args:
            teacher: explanation of the M series under `plan`.
            plan: grid of windows and their baseline.
            top: share of the windows whose order counts, in (0, 1]; at least one does.

        Raises:
            ShapeError: the maps have another number of windows than the plan.
        """
        super().__init__(teacher, plan)
        self._places = max(1, round(top * len(plan.starts)))

    def forward(self, batch: Batch, outputs: StudentOutputs) -> Tensor:
        """Return the loss, a scalar; nats a place."""
        student, teacher = self.maps(batch, outputs)
        return plackett_luce(student, teacher, self._places)
