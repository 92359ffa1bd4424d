"""Temporal Saliency Distillation as published: random windows of opposing series.

Source: "Learning to Reason: Temporal Saliency Distillation for Interpretable
Knowledge Transfer", arXiv:2601.04263, ECAI 2025.
"""

from __future__ import annotations

from collections.abc import Callable

from edgedistill_kernels.reference import Form
from torch import Tensor
from torch.nn import functional

from edgedistill.attribution import normalize, plackett_luce, window_saliency
from edgedistill.distillation.configs.objectives import Loss
from edgedistill.distillation.objectives.cutmix_windows import CutMixWindowObjective, LogitsPair
from edgedistill.distillation.objectives.objective import Batch, StudentOutputs
from edgedistill.io.arrays import Doubles, Floats, Ints
from edgedistill.saliency.classifier import LogitsFn
from edgedistill.teachers.window_cache import WindowCache


class TSD(CutMixWindowObjective):
    """SmoothL1, as published, between the normalized window saliency of student and teacher.

    The windows are drawn anew as published, or among those of a cache of the teacher's logits.
    Unlike the published code, the very last start is drawn too.

    Ours: 1 - cosine, or the teacher's order of the windows, instead of SmoothL1; and windows
    drawn where the teacher's map is large.
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
        form: Form = "summed",
        loss: Loss = "smooth_l1",
        start_weights: Doubles | None = None,
        seed: int = 0,
    ) -> None:
        """Keep the teacher and the donors of the windows.

        Args:
            teacher, donors, donor_labels, windows, width, start_weights, seed: as in
                `CutMixWindowObjective`.
            temperature: softmax temperature of both saliencies.
            form: form of the window saliency, "summed" or "elementwise".
            loss: "smooth_l1", "cosine", or "ranking", which takes the summed form alone.

        Raises:
            ShapeError: the cache holds windows of another width, or fewer than W a series.
        """
        super().__init__(
            teacher,
            donors,
            donor_labels,
            windows=windows,
            width=width,
            start_weights=start_weights,
            seed=seed,
        )
        self._temperature, self._form = temperature, form
        self._loss = LOSSES[loss]

    def forward(self, batch: Batch, outputs: StudentOutputs) -> Tensor:
        """Return the loss, a scalar."""
        student, teacher = self.logits(batch, outputs)
        return self._loss(self._saliency(student), self._saliency(teacher))

    def _saliency(self, logits: LogitsPair) -> Tensor:
        scores = window_saliency(
            logits.clean, logits.perturbed, temperature=self._temperature, form=self._form
        )
        return normalize(scores)


def _cosine(student: Tensor, teacher: Tensor) -> Tensor:
    """Return 1 less the mean cosine over series; of all windows, and classes, of a series."""
    return 1 - functional.cosine_similarity(student.flatten(1), teacher.flatten(1), dim=1).mean()


def _ranking(student: Tensor, teacher: Tensor) -> Tensor:
    return plackett_luce(student, teacher, max(1, round(RANKED * student.shape[1])))


RANKED = 0.5  # share of the windows whose order counts
LOSSES: dict[Loss, Callable[[Tensor, Tensor], Tensor]] = {
    "smooth_l1": functional.smooth_l1_loss,
    "cosine": _cosine,
    "ranking": _ranking,
}
