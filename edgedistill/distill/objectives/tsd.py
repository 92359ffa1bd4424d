"""Temporal Saliency Distillation as published: random windows of opposing series.

Source: "Learning to Reason: Temporal Saliency Distillation for Interpretable
Knowledge Transfer", arXiv:2601.04263, ECAI 2025.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from edgedistill_kernels.reference import Form
from torch import Tensor
from torch.nn import functional

from edgedistill import perturbation
from edgedistill.distill.objectives.objective import Answer, Batch, Objective, Windows
from edgedistill.perturbation import Floats, Ints
from edgedistill.saliency import normalize, perturb, window_saliency


class TSD(Objective):
    """SmoothL1 between the normalized window saliency of student and teacher.

    At every step each series gets W fresh windows, each overwritten with the same
    stretch of a training series of another class; teacher and student answer the
    same copies. Unlike the published code, the very last start is drawn too.
    """

    def __init__(
        self,
        teacher: Callable[[Floats], Floats],
        bank: Floats,
        bank_labels: Ints,
        *,
        windows: int,
        width: int,
        temperature: float,
        form: Form = "summed",
        seed: int = 0,
    ) -> None:
        """Keep the teacher and the series to draw windows from.

        Args:
            teacher: logits of a batch, (N, C, T) -> (N, K).
            bank: training series, (M, C, T); never validation or test series.
            bank_labels: (M,).
            windows: W, a series and step.
            width: w, steps.
            temperature: of both saliencies.
            form: "summed" or "elementwise".
            seed: with the step, of every draw.
        """
        super().__init__()
        self._teacher = teacher
        self._bank, self._bank_labels = bank, bank_labels
        self._windows, self._width = windows, width
        self._temperature, self._form, self._seed = temperature, form, seed

    def windows(self, batch: Batch) -> Windows:
        """Return windows of opposing series, drawn anew at every step."""
        starts, donors = self._draw(batch)
        patches = perturbation.cut(self._bank, donors, starts, self._width)
        device = batch.series.device
        return Windows(torch.from_numpy(starts).to(device), torch.from_numpy(patches).to(device))

    def forward(self, batch: Batch, answer: Answer) -> Tensor:
        """Return the loss, a scalar; the teacher is asked about the same copies."""
        windows, changes = answer.perturbed()
        student = self._saliency(answer.logits, answer.logits[:, None] + changes)
        copies = perturb(batch.series, windows.starts, windows.patches).flatten(0, 1)
        clean = self._ask(batch.series)
        teacher = self._saliency(clean, self._ask(copies).reshape(changes.shape))
        return functional.smooth_l1_loss(student, teacher)

    def _draw(self, batch: Batch) -> tuple[Ints, Ints]:
        rows = batch.rows.cpu().numpy()
        rng = np.random.default_rng((self._seed, batch.step, int(rows[0])))
        labels = batch.labels.cpu().numpy()
        length = batch.series.shape[-1]
        starts = perturbation.draw_starts(
            len(rows), self._windows, length=length, width=self._width, rng=rng
        )
        donors = perturbation.draw_donors(labels, self._bank_labels, self._windows, rng)
        return starts, donors

    def _ask(self, series: Tensor) -> Tensor:
        logits = self._teacher(series.detach().cpu().numpy())
        return torch.from_numpy(logits).to(series.device)

    def _saliency(self, clean: Tensor, perturbed: Tensor) -> Tensor:
        scores = window_saliency(
            clean,
            perturbed,
            temperature=self._temperature,
            form=self._form,
        )
        return normalize(scores)
