"""A teacher's logits and maps of every series, computed once and saved."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgedistill.data import Prepared
from edgedistill.errors import DataError
from edgedistill.io.arrays import Floats
from edgedistill.io.files import whole_file
from edgedistill.saliency.classifier import Classifier
from edgedistill.saliency.occlusion import Explanation, explain_classifier
from edgedistill.saliency.perturbation import PerturbationPlan, unseen_plan

SPLITS = ("train", "validation", "test")
UNLABELED = "unlabeled"  # beside them, where there are such series
_UNREADABLE = (
    OSError,
    EOFError,
    ValueError,
    KeyError,
    TypeError,  # a bare array is no context manager; AttributeError before Python 3.11
    AttributeError,
    zipfile.BadZipFile,
)


@dataclass(frozen=True, slots=True)
class TeacherOutputs:
    """The teacher's explanations of each split, and of the test split under an unseen plan."""

    splits: Mapping[str, Explanation]  # "train", "validation", "test", and "unlabeled" if there
    unseen: Explanation
    maps: bool  # False: the teacher takes no perturbed series, so maps are zero

    def save(self, path: Path) -> None:
        """Write it as NPZ, whole or not at all."""
        parts = {**self.splits, "unseen": self.unseen}
        arrays: dict[str, NDArray[np.generic]] = {"maps": np.array(self.maps)}
        for name, part in parts.items():
            arrays |= {
                f"{name}_logits": part.logits,
                f"{name}_kl": part.kl,
                f"{name}_signed": part.signed,
            }
        with whole_file(path) as partial:
            np.savez(partial, allow_pickle=False, **arrays)

    @classmethod
    def open(cls, path: Path) -> TeacherOutputs:
        """Open a file that `save` wrote.

        Raises:
            DataError: the file is missing or not ours.
        """
        try:
            # NumPy would leave a damaged file open that it opened itself.
            with path.open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
                names = (*SPLITS, UNLABELED) if f"{UNLABELED}_logits" in arrays else SPLITS
                parts = {
                    name: Explanation(
                        arrays[f"{name}_logits"], arrays[f"{name}_kl"], arrays[f"{name}_signed"]
                    )
                    for name in (*names, "unseen")
                }
                return cls({n: parts[n] for n in names}, parts["unseen"], bool(arrays["maps"]))
        except _UNREADABLE as error:
            raise DataError(
                f"{path} does not hold a teacher's answers ({error}). Train the teacher again."
            ) from error


def compute_teacher_outputs(
    teacher: Classifier,
    data: Prepared,
    plan: PerturbationPlan,
    on_progress: Callable[[int, int], None] | None = None,
) -> TeacherOutputs:
    """Compute a teacher's logits of every series, and its maps if it takes perturbed series.

    Args:
        teacher: classifier that teaches.
        data: data set with its three splits.
        plan: perturbation plan of the maps.
        on_progress: callback with the numbers of finished parts and of all.
    """
    series = {name: getattr(data, name).x for name in SPLITS}
    if data.unlabeled is not None:
        series[UNLABELED] = data.unlabeled
    parts = [(each, plan) for each in series.values()]
    parts.append((data.test.x, unseen_plan(plan)))
    explanations: list[Explanation] = []
    for each, own_plan in parts:
        explanations.append(_explain(teacher, each, own_plan))
        if on_progress is not None:
            on_progress(len(explanations), len(parts))
    return TeacherOutputs(
        dict(zip(series, explanations, strict=False)), explanations[-1], teacher.can_explain
    )


def _explain(teacher: Classifier, series: Floats, plan: PerturbationPlan) -> Explanation:
    if teacher.can_explain:
        return explain_classifier(teacher, series, plan)
    nothing = np.zeros((len(series), len(plan.starts)), dtype=np.float32)
    return Explanation(teacher.logits(series), nothing, nothing)
