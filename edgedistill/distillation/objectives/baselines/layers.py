"""What all objectives share that compare a layer of the student with one of the teacher."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from edgedistill.distillation.features import Pair
from edgedistill.distillation.objectives.objective import Batch, Objective, StudentOutputs


class LayerObjective(Objective):
    """A loss of what a layer of each gave for the same series."""

    def __init__(self, pair: Pair) -> None:
        """Keep the teacher; the student's layer comes with its answer."""
        super().__init__()
        self._pair = pair
        self.layers = (pair.student,)

    def layer_outputs(self, batch: Batch, outputs: StudentOutputs) -> tuple[Tensor, Tensor]:
        """Return what the student's and the teacher's layer gave.

        Returns:
            (N, C', T') and (N, C'', T'), the longer averaged down to the shorter; of the
            embedding (N, F) and (N, F').
        """
        student = outputs.features[self._pair.student]
        teacher = self._pair.features(batch.series)[self._pair.teacher].to(student.dtype)
        if student.ndim == 2:
            return student, teacher
        length = min(student.shape[2], teacher.shape[2])
        return (
            functional.adaptive_avg_pool1d(student, length),
            functional.adaptive_avg_pool1d(teacher, length),
        )
