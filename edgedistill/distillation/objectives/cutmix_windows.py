"""What objectives share that ask about windows which show another class."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from edgedistill.attribution import perturb
from edgedistill.distillation.objectives.objective import Batch, Objective, StudentOutputs, Windows
from edgedistill.errors import ShapeError
from edgedistill.io.arrays import Doubles, Floats, Ints
from edgedistill.saliency import perturbation
from edgedistill.teachers.importance import draw_weighted_starts
from edgedistill.teachers.window_cache import WindowCache

LogitsFn = Callable[[Floats], Floats]  # (N, C, T) -> logits (N, K)


class LogitsPair(NamedTuple):
    """Logits of a model for a batch, and for its copies."""

    clean: Tensor  # (N, K)
    perturbed: Tensor  # (N, W, K)


class CutMixWindowObjective(Objective):
    """A loss of the answers to copies in which a window shows a series of another class.

    At every step each series gets W windows, each overwritten with the same stretch of
    a training series of another class; teacher and student answer the same copies. The
    windows are drawn anew, or among those that a bank holds the teacher's answers for.
    From a bank, two windows of a step may have the same start.
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
        """Keep the teacher and the series to draw windows from.

        Args:
            teacher: logits of a batch, (N, C, T) -> (N, K), asked at every step; or a bank of
                all series that training knows, and nobody is asked.
            donors: training series, (M, C, T); never validation or test series.
            donor_labels: (M,).
            windows: W, a series and step.
            width: w, steps.
            start_weights: of the starts in all series that training knows, (M, T - w + 1), for a
                teacher who is asked; None makes all alike. A bank was drawn with its own.
            seed: with the step, of every draw.

        Raises:
            ShapeError: the bank holds windows of another width, or fewer than W a series.
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
        patches = perturbation.cut(self._donors, donors, starts, self._width)
        device = batch.series.device
        return Windows(torch.from_numpy(starts).to(device), torch.from_numpy(patches).to(device))

    def logits(self, batch: Batch, outputs: StudentOutputs) -> tuple[LogitsPair, LogitsPair]:
        """Return what student and teacher say of the same series and copies."""
        windows, changes = outputs.perturbed()
        student = LogitsPair(outputs.logits, outputs.logits[:, None] + changes)
        return student, self._teacher_logits(batch, windows)

    def _draw(self, batch: Batch) -> tuple[Ints, Ints]:
        """Return the starts and donors of a batch's windows, (N, W) each; always the same."""
        rng = self._rng(batch)
        if isinstance(self._teacher, WindowCache):
            bank, where = self._teacher, self._teacher.pick(_rows(batch), self._windows, rng)
            return bank.starts[where].astype(np.int64), bank.donors[where].astype(np.int64)
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
            bank, rows = self._teacher, _rows(batch)
            where = bank.pick(rows, self._windows, self._rng(batch))
            clean, perturbed = bank.clean[rows], bank.logits[where]
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
