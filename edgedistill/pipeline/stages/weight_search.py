"""Which weights a student is tried with, how far each candidate trains, and what is noted of it."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from edgedistill.distillation.objectives.config import Range, Weight
from edgedistill.errors import DataError
from edgedistill.io.files import read_json, write_json
from edgedistill.recipe.recipe import Recipe
from edgedistill.training.weight_search import HalvingStage, Trial, draw, halving_schedule

NOTES = "candidate.json"


def candidates(recipe: Recipe) -> list[tuple[float, ...]]:
    """Return every weight that is tried, in the order of the objectives.

    All combinations of the lists; where weights are ranges, for each of the points that are
    drawn from all ranges together.
    """
    section = recipe.student
    weights = [term.weight for term in section.objectives]
    bounds = [(weight.low, weight.high) for weight in weights if isinstance(weight, Range)]
    points = draw(bounds, section.search.points, seed=recipe.seed) if bounds else [[]]
    found: list[tuple[float, ...]] = []
    for point in points:
        samples = iter(point)
        found += itertools.product(*[_options(weight, samples) for weight in weights])
    return found


def halving_stages(recipe: Recipe, number: int) -> list[HalvingStage]:
    """Return the rungs that so many candidates climb; only the end where all train in full."""
    section = recipe.student
    epochs = section.training.epochs
    if section.search.method == "full":
        return [HalvingStage(epochs, number)]
    return halving_schedule(
        number,
        before=_before(recipe),
        epochs=epochs,
        eta=section.search.eta,
        first=section.search.first,
    )


def load_candidate(folder: Path, key: str) -> list[Trial]:
    """Return how a candidate did at the rungs that it was judged at before a kill.

    A folder of another search is emptied: its checkpoint may lie behind the rung to come.
    """
    try:
        found = read_json(folder / NOTES)
    except DataError:
        found = {}
    if found.get("key") == key:
        return [Trial(**trial) for trial in found["judged"]]
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    save_candidate(folder, key, [])
    return []


def save_candidate(folder: Path, key: str, trials: Sequence[Trial]) -> None:
    """Write down how a candidate did, whole or not at all."""
    write_json(folder / NOTES, {"key": key, "judged": [asdict(trial) for trial in trials]})


def search_summary(
    stages: Sequence[HalvingStage], trials: Sequence[Sequence[Trial]], chosen_index: int
) -> Any:
    """Return what is kept of a search: every candidate, the chosen one, and the cost.

    Args:
        stages: the rungs.
        trials: how each candidate did at every rung that it reached.
        chosen_index: which candidate was taken.
    """
    return {
        "trials": [
            {
                **asdict(trials[-1]),
                "ended": _ended(trials, stages),
                "rungs": [_without_weights(trial) for trial in trials],
            }
            for trials in trials
        ],
        "chosen": chosen_index,
        "rungs": [asdict(rung) for rung in stages],
        "epochs": {
            "trained": sum(trials[-1].epochs for trials in trials),
            "of_all_in_full": len(trials) * stages[-1].epoch,
        },
    }


def _options(weight: Weight, samples: Iterator[float]) -> tuple[float, ...]:
    if isinstance(weight, Range):
        return (next(samples),)
    return weight if isinstance(weight, tuple) else (weight,)


def _before(recipe: Recipe) -> int:
    """Return after how many epochs `fit` begins to choose weights."""
    section = recipe.student
    narrow = 0.0 if section.prune_from_teacher is None else section.prune_from_teacher.until
    joined = max(narrow, *(min(1.0, term.start + term.ramp) for term in section.objectives))
    epochs = section.training.epochs
    return next((done for done in range(epochs) if done / epochs >= joined), epochs - 1)


def _ended(trials: Sequence[Trial], stages: Sequence[HalvingStage]) -> str:
    if len(trials) < len(stages):
        return f"left behind at rung {len(trials)} of {len(stages)}"
    if trials[-1].epochs < stages[-1].epoch:
        return "no improvement within patience"
    return "trained to the end"


def _without_weights(trial: Trial) -> dict[str, Any]:
    return {name: value for name, value in asdict(trial).items() if name != "weights"}
