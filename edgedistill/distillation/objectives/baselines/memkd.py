"""Memory discrepancy: match the relative changes of hidden states over subsequences."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from edgedistill.distillation.features import Pair
from edgedistill.distillation.objectives.baselines.layers import LayerObjective
from edgedistill.distillation.objectives.objective import Batch, StudentOutputs
from edgedistill.errors import ShapeError

_EPSILON = 1e-8  # added to the norm of a state that may be zero


class MemKD(LayerObjective):
    """SmoothL1 between the relative changes of both states over random subsequences.

    A state is the output of a layer at a step, (C',). Published is the idea: hidden states of
    recurrent networks, how they change over subsequences, relative to the states so that
    networks of any width compare, SmoothL1. Our choices, because the details could not be
    recovered: begin and end of a subsequence are drawn evenly, anew at every step and for each
    series; its change is the distance of both states over the sum of their norms, from 0 to 1,
    which no state near zero can blow up; any layer with an output over time will do.

    Source: MemKD, arXiv:2601.04264.
    """

    def __init__(self, pair: Pair, *, subsequences: int, seed: int) -> None:
        """Keep the layers and the seed of the draws.

        Args:
            pair: the layers, (N, C', T') and (N, C'', T').
            subsequences: draws a series and step.
            seed: seed, with the step, of every draw.
        """
        super().__init__(pair)
        self._number, self._seed = subsequences, seed

    def forward(self, batch: Batch, outputs: StudentOutputs) -> Tensor:
        """Return the loss, a scalar.

        Raises:
            ShapeError: a layer has one step alone.
        """
        student, teacher = self.layer_outputs(batch, outputs)
        first, last = self._draw(batch, student.shape[2])
        return functional.smooth_l1_loss(
            _change(student, first, last), _change(teacher, first, last)
        )

    def _draw(self, batch: Batch, length: int) -> tuple[Tensor, Tensor]:
        """Return the first and last step of the subsequences, (N, number) each."""
        if length < 2:
            raise ShapeError(
                f"memkd compares what a layer gives at two steps, and {self.layers[0]!r} or the "
                "teacher's layer has one step alone. Name other layers with student_layer and "
                "teacher_layer, or use longer series."
            )
        rng = np.random.default_rng((self._seed, batch.step, int(batch.rows[0])))
        shape = (len(batch.series), self._number)
        one = rng.integers(0, length, shape)
        other = (one + rng.integers(1, length, shape)) % length  # never the same step
        ends = np.sort(np.stack([one, other]), axis=0)
        first, last = torch.from_numpy(ends).to(batch.series.device)
        return first, last


def _change(output: Tensor, first: Tensor, last: Tensor) -> Tensor:
    """Return the relative change of states, (N, C', T'), over subsequences, (N, number)."""
    begin, end = (_states(output, steps) for steps in (first, last))
    norms = torch.linalg.vector_norm(begin, dim=1) + torch.linalg.vector_norm(end, dim=1)
    change: Tensor = torch.linalg.vector_norm(end - begin, dim=1) / (norms + _EPSILON)
    return change


def _states(output: Tensor, steps: Tensor) -> Tensor:
    """Return the states, (N, C', T'), at the steps, (N, number): (N, C', number)."""
    return output.gather(2, steps[:, None].expand(-1, output.shape[1], -1))
