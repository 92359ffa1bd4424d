"""Objectives about windows that show a series of another class, and the cache of such windows."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from edgedistill.attribution import perturb
from edgedistill.distillation.objectives.objective import Batch, Objective, StudentOutputs, Windows
from edgedistill.errors import ShapeError
from edgedistill.io.arrays import Doubles, Floats, Ints
from edgedistill.saliency import perturbation
from edgedistill.saliency.classifier import LogitsFn
from edgedistill.teachers.window_cache import (
    WindowCache,
    draw_weighted_starts,
)


class LogitsPair(NamedTuple):
    """Logits of a model for a batch, and for its copies."""

    clean: Tensor  # (N, K)
    perturbed: Tensor  # (N, W, K)


class CutMixWindowObjective(Objective):
    """A loss of the logits for copies in which a window shows a series of another class.

    At every step each series gets W windows, each overwritten with the same stretch of
    a training series of another class; teacher and student take the same copies. The
    windows are drawn anew, or among those of a cache of the teacher's logits. From a
    cache, two windows of a step may have the same start.
    """

    def __init__(
        self,
        teacher: LogitsFn | WindowCache,
        donors: Floats,
        donor_labels: Ints,
        *,
        windows: int,
        width: int,
        start_weights: Doubles | None = None,
        seed: int = 0,
    ) -> None:
        """Keep the teacher and the donors of the windows.

        Args:
            teacher: logits of a batch, (N, C, T) -> (N, K), computed at every step; or a cache
                of its logits for windows of all series.
            donors: training series, (m, C, T); never validation or test series.
            donor_labels: labels of the donors, (m,).
            windows: W, windows a series and step.
            width: w, steps of a window.
            start_weights: probabilities of the starts in all series, (M, T - w + 1), without a
                cache; None makes all alike. A cache is drawn with its own.
            seed: seed, with the step, of every draw.

        Raises:
            ShapeError: the cache holds windows of another width, or fewer than W a series.
        """
        super().__init__()
        if isinstance(teacher, WindowCache):
            _check(teacher, windows, width)
        self._teacher = teacher
        self._donors, self._donor_labels = donors, donor_labels
        self._windows, self._width = windows, width
        self._start_weights, self._seed = start_weights, seed

    def windows(self, batch: Batch) -> Windows:
        """Return windows of opposing series, drawn anew at every step."""
        starts, donors = self._draw(batch)
        patches = perturbation.donor_patches(self._donors, donors, starts, self._width)
        device = batch.series.device
        return Windows(torch.from_numpy(starts).to(device), torch.from_numpy(patches).to(device))

    def logits(self, batch: Batch, outputs: StudentOutputs) -> tuple[LogitsPair, LogitsPair]:
        """Return the logits of student and teacher for the same series and copies."""
        windows, changes = outputs.perturbed()
        student = LogitsPair(outputs.logits, outputs.logits[:, None] + changes)
        return student, self._teacher_logits(batch, windows)

    def _draw(self, batch: Batch) -> tuple[Ints, Ints]:
        """Return the starts and donors of a batch's windows, (N, W) each; always the same."""
        rng = self._rng(batch)
        if isinstance(self._teacher, WindowCache):
            cache, index = self._teacher, self._teacher.pick(_rows(batch), self._windows, rng)
            return cache.starts[index].astype(np.int64), cache.donors[index].astype(np.int64)
        labels = batch.labels.cpu().numpy()
        if self._start_weights is None:
            length = batch.series.shape[-1]
            starts = perturbation.draw_starts(
                len(labels), self._windows, length=length, width=self._width, rng=rng
            )
        else:
            starts = draw_weighted_starts(self._start_weights[_rows(batch)], self._windows, rng)
        donors = perturbation.draw_donors(labels, self._donor_labels, self._windows, rng)
        return starts, donors

    def _teacher_logits(self, batch: Batch, windows: Windows) -> LogitsPair:
        """Return the teacher's logits."""
        if isinstance(self._teacher, WindowCache):
            cache, rows = self._teacher, _rows(batch)
            index = cache.pick(rows, self._windows, self._rng(batch))
            clean, perturbed = cache.clean[rows], cache.logits[index]
        else:
            copies = perturb(batch.series, windows.starts, windows.patches)
            clean = self._teacher(batch.series.cpu().numpy())
            perturbed = self._teacher(copies.flatten(0, 1).cpu().numpy())
            perturbed = perturbed.reshape(*copies.shape[:2], -1)
        device = batch.series.device
        return LogitsPair(
            torch.from_numpy(clean).to(device), torch.from_numpy(perturbed).to(device)
        )

    def _rng(self, batch: Batch) -> np.random.Generator:
        return np.random.default_rng((self._seed, batch.step, int(batch.rows[0])))


def _rows(batch: Batch) -> Ints:
    rows: Ints = batch.rows.cpu().numpy()
    return rows


def _check(cache: WindowCache, windows: int, width: int) -> None:
    number = cache.starts.shape[1]
    if cache.width != width or number < windows:
        raise ShapeError(
            f"The bank holds {number} windows of {cache.width} steps a series; {windows} of "
            f"{width} steps are to be drawn. Make a bank for them."
        )
