"""CutMix for time series: knowledge distillation on the perturbed copies of `tsd`."""

from __future__ import annotations

from torch import Tensor

from edgedistill.distillation.objectives.cutmix_windows import CutMixWindowObjective
from edgedistill.distillation.objectives.kd import softened_kl
from edgedistill.distillation.objectives.objective import Batch, StudentOutputs
from edgedistill.io.arrays import Floats, Ints
from edgedistill.saliency.classifier import LogitsFn
from edgedistill.teachers.window_cache import WindowCache


class CutMixKD(CutMixWindowObjective):
    """KD's loss on copies with windows of another class, the mean over copies.

    TSD compares how far a window moves the classes and forgets where to; here the student copies
    where to. The teacher labels the copies, as in CutMix (Yun et al. 2019, arXiv:1905.04899) under
    distillation (Wang et al. 2020, arXiv:2012.02909). Many narrow windows of a series, followed
    from one pass over it, are ours.
    """

    def __init__(
        self,
        teacher: LogitsFn | WindowCache,
        donors: Floats,
        donor_labels: Ints,
        *,
        windows: int,
        width: int,
        temperature: float,
        seed: int = 0,
    ) -> None:
        """Keep the teacher and the donors of the windows.

        Args:
            teacher, donors, donor_labels, windows, width, seed: as in `CutMixWindowObjective`.
            temperature: softmax temperature of both distributions.

        Raises:
            ShapeError: the cache holds windows of another width, or fewer than W a series.
        """
        super().__init__(teacher, donors, donor_labels, windows=windows, width=width, seed=seed)
        self._temperature = temperature

    def forward(self, batch: Batch, outputs: StudentOutputs) -> Tensor:
        """Return the loss, a scalar."""
        student, teacher = (pair.perturbed.flatten(0, 1) for pair in self.logits(batch, outputs))
        return softened_kl(student, teacher, self._temperature)
