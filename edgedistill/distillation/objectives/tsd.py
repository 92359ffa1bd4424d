"""Temporal Saliency Distillation as published: random windows of opposing series.

Source: "Learning to Reason: Temporal Saliency Distillation for Interpretable
Knowledge Transfer", arXiv:2601.04263, ECAI 2025.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from edgedistill_kernels.reference import Form
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from edgedistill.attribution import normalize, plackett_luce, window_saliency
from edgedistill.distillation import seeds
from edgedistill.distillation.context import ObjectiveContext
from edgedistill.distillation.objectives.cutmix_windows import (
    CutMixWindowConfig,
    CutMixWindowObjective,
    LogitsPair,
)
from edgedistill.distillation.objectives.multi_width import MultiWidthObjective, split_windows
from edgedistill.distillation.objectives.objective import Batch, Count, Objective, StudentOutputs
from edgedistill.errors import ConfigError
from edgedistill.io.arrays import Doubles, Floats, Ints
from edgedistill.saliency.classifier import LogitsFn
from edgedistill.teachers.window_cache import WindowCache, start_probabilities

Loss = Literal["smooth_l1", "cosine", "ranking"]


class TSDConfig(CutMixWindowConfig):
    """Temporal Saliency Distillation as published."""

    name: Literal["tsd"]
    width: Count | tuple[Count, ...] = 10  # several share `windows`
    temperature: float = Field(8.0, gt=0)
    form: Form = "summed"
    loss: Loss = "smooth_l1"
    draw: Literal["uniform", "importance"] = "uniform"  # the latter half by the teacher's map

    @property
    def widths(self) -> tuple[int, ...]:
        """The width, or all of them."""
        return self.width if isinstance(self.width, tuple) else (self.width,)

    def check(self) -> None:
        """Refuse settings that contradict each other.

        Raises:
            ConfigError: widths repeat or outnumber the windows, or the loss does not fit the form.
        """
        super().check()
        if not self.widths or len(set(self.widths)) < len(self.widths):
            raise ConfigError(
                f"width is {list(self.widths)}. Name at least one width, and each of them once."
            )
        if self.windows < len(self.widths):
            raise ConfigError(
                f"windows is {self.windows} for {len(self.widths)} widths. Let each have at least "
                "one, or name fewer widths."
            )
        if self.loss == "ranking" and self.form == "elementwise":
            raise ConfigError(
                "loss is 'ranking' beside form 'elementwise', which gives a window a score for "
                "each class. Choose form: summed, or another loss."
            )

    def build(self, context: ObjectiveContext) -> Objective:
        """Return the objective of one width, or the mean of those of several."""
        counts = split_windows(self.windows, len(self.widths))
        parts = [
            self._build_width(context, width, windows, context.seed + index * seeds.TSD_WIDTHS)
            for index, (width, windows) in enumerate(zip(self.widths, counts, strict=True))
        ]
        return parts[0] if len(parts) == 1 else MultiWidthObjective(parts, counts)

    def _build_width(self, context: ObjectiveContext, width: int, windows: int, seed: int) -> TSD:
        start_weights = None
        if self.draw == "importance":
            start_weights = start_probabilities(context.explanation.kl, context.plan, width)
        return TSD(
            self.window_teacher(context, width, windows, start_weights),
            *context.data.donors(),
            windows=windows,
            width=width,
            temperature=self.temperature,
            form=self.form,
            loss=self.loss,
            start_weights=start_weights,
            seed=seed,
        )


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
