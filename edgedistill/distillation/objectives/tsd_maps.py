"""Temporal saliency distillation of whole maps: the schedule we recommend.

Our own variant of arXiv:2601.04263. The published term compares a few random
windows; this one compares the map over the whole series that the contract will
judge later. The perturbed copies do not change, so the teacher runs on them once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import partial
from pathlib import Path

from torch import Tensor

from edgedistill.attribution import correlation, timestep_map
from edgedistill.distillation.configs.objectives import Over
from edgedistill.distillation.context import ObjectiveContext
from edgedistill.distillation.objectives.maps import MapObjective
from edgedistill.distillation.objectives.objective import Batch, StudentOutputs
from edgedistill.io.arrays import Ints
from edgedistill.io.files import fingerprint
from edgedistill.saliency.occlusion import Explanation
from edgedistill.saliency.perturbation import PerturbationPlan
from edgedistill.teachers import Classifier
from edgedistill.teachers.map_cache import open_maps, write_maps


class TSDMaps(MapObjective):
    """`1 - Pearson` between the signed maps of student and teacher, mean over series.

    Correlation has no scale, so a student may be less certain than its teacher as
    long as it weighs the same windows, or time steps, the same way.
    """

    def __init__(
        self, teacher: Explanation, plan: PerturbationPlan, *, over: Over = "windows"
    ) -> None:
        """Keep the teacher's maps of all series.

        Args:
            teacher: explanation of the M series under `plan`.
            plan: grid of windows and their baseline.
            over: what to compare: scores of windows, or for each time step the mean of the
                windows that cover it.

        Raises:
            ShapeError: the maps have another number of windows than the plan.
        """
        super().__init__(teacher, plan)
        self._over = over

    def forward(self, batch: Batch, outputs: StudentOutputs) -> Tensor:
        """Return the loss, a scalar."""
        student, teacher = self.maps(batch, outputs)
        if self._over == "timesteps":
            student, teacher = self._spread(student), self._spread(teacher)
        return (1 - correlation(student, teacher)).mean()

    def _spread(self, scores: Tensor) -> Tensor:
        """Return window scores (N, W) over time, (N, T)."""
        plan = self._plan
        return timestep_map(scores, self.starts[0], width=plan.width, length=plan.length)


def teacher_maps(plan: PerturbationPlan, context: ObjectiveContext) -> Explanation:
    """Return the maps of the teacher, which is opened only if they are not cached."""
    name = f"maps-{plan.width}-{plan.stride}"
    return _cached_maps(name, context.teacher_key, context.open_teacher, plan, context)


def other_maps(
    source: str, teacher: Classifier, plan: PerturbationPlan, context: ObjectiveContext
) -> Explanation:
    """Return the maps of another teacher, of the classes that the first one predicts.

    Its logits are its key, because a factory has no file to hash.
    """
    logits = teacher.logits(context.data.series.numpy())
    name = f"maps-{plan.width}-{plan.stride}-{fingerprint(source)[:8]}"
    key = hashlib.sha256(logits.tobytes()).hexdigest()
    return _cached_maps(name, key, lambda: teacher, plan, context)


def _cached_maps(
    name: str,
    teacher_key: str,
    open_teacher: Callable[[], Classifier],
    plan: PerturbationPlan,
    context: ObjectiveContext,
) -> Explanation:
    """Return a teacher's maps under a plan, computed if they are not cached.

    They depend neither on the student nor on its seed, so all students of a teacher share them.
    """
    series = context.data.series.numpy()
    targets: Ints = context.explanation.logits.argmax(axis=1)
    hashes = [hashlib.sha256(part.tobytes()).hexdigest() for part in (series, targets)]
    on_progress = partial(context.on_progress, "ask the teacher for maps")

    def fill(folder: Path) -> None:
        write_maps(folder, open_teacher(), series, targets, plan, on_progress)

    key = fingerprint([teacher_key, *hashes, series.shape, plan.to_dict()])
    return open_maps(context.cache(name, key, fill), context.explanation.logits)
