"""Temporal saliency distillation of whole maps: the schedule we recommend.

Our own variant of arXiv:2601.04263. The published term compares a few random
windows; this one compares the map over the whole series that the contract will
judge later. The perturbed copies do not change, so the teacher is asked once.
"""

from __future__ import annotations

from torch import Tensor

from edgedistill.distill.objectives.maps import MapObjective
from edgedistill.distill.objectives.objective import Answer, Batch
from edgedistill.saliency import correlation


class TSDMaps(MapObjective):
    """`1 - Pearson` between the signed maps of student and teacher, mean over series.

    Correlation has no scale, so a student may be less certain than its teacher as
    long as it weighs the same windows the same way.
    """

    def forward(self, batch: Batch, answer: Answer) -> Tensor:
        """Return the loss, a scalar."""
        student, teacher = self.maps(batch, answer)
        return (1 - correlation(student, teacher)).mean()
