"""What a finished run holds for those who come later: its plan and its networks."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgedistill.errors import ShapeError
from edgedistill.io.arrays import Floats
from edgedistill.io.files import read_json
from edgedistill.pipeline import networks
from edgedistill.pipeline.run_folder import TEACHER_FACTS, RunFolder
from edgedistill.saliency.perturbation import PerturbationPlan
from edgedistill.teachers import TorchClassifier


def recorded_plan(*folders: Path) -> PerturbationPlan | None:
    """Return the plan of the first run, or folder of a teacher, that was asked under one."""
    for folder in (folder for place in folders for folder in (RunFolder(place).teacher, place)):
        if (folder / TEACHER_FACTS).is_file():
            return PerturbationPlan.from_dict(read_json(folder / TEACHER_FACTS)["plan"])
    return None


def check_plan_length(plan: PerturbationPlan, length: int) -> PerturbationPlan:
    """Return a plan if it is of series of this length, in steps; else refuse it.

    Raises:
        ShapeError: it is of another.
    """
    if plan.length != length:
        raise ShapeError(
            f"The plan is of series of {plan.length} steps; these have {length}. Name the data of "
            f"the run, or set their length: --set data.length={plan.length}."
        )
    return plan


def network_of(
    folder: Path, names: tuple[str, ...], series: Floats, *, name: str | None = None
) -> TorchClassifier:
    """Return the network in a folder that `train` or `distill` wrote.

    Args:
        folder: of the stage.
        names: of the classes.
        series: that it will be asked about, (N, C, T).
        name: of the network; None is the folder's.

    Raises:
        ModelError: there is none.
        ShapeError: it is made for other series.
    """
    module, facts = networks.open_network(folder)
    _check_shape(folder, facts, series.shape[1], series.shape[2], len(names))
    return TorchClassifier(module, classes=len(names), name=name or folder.name)


def _check_shape(path: Path, facts: Mapping[str, Any], channels: int, length: int, k: int) -> None:
    """A convolutional network would answer for another length too, and mean nothing by it."""
    made = facts["channels"], facts["length"], facts["classes"]
    if made != (channels, length, k):
        raise ShapeError(
            f"The network in {path} is made for {made[0]} channels, {made[1]} steps and {made[2]} "
            f"classes; these series have {channels}, {length} and {k}. Name the data it was "
            "trained on, and repeat the settings it was trained with (--set)."
        )
