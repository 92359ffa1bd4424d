"""The search for the objectives' weights: points to try, successive halving, the best trial.

Which weights are taken is decided on validation data, by a stated rule. In successive halving every
candidate trains a little and the better ones train on.

Source: Jamieson and Talwalkar 2016, arXiv:1502.07943; synchronous, and counted from the
epoch in which the last objective has joined, because no weights are kept before it.
"""

from __future__ import annotations

import itertools
import math
import shutil
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edgedistill.distillation.configs.config import Range, Weight
from edgedistill.errors import DataError
from edgedistill.io.files import read_json, write_json

CANDIDATE = "candidate.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """A student that was trained with some weights, and its figures on validation series."""

    weights: dict[str, float]  # of each objective
    accuracy: float
    kl: float  # mean KL(teacher || student), nats
    saliency_pearson: float | None  # mean over series; None: the teacher has no maps
    epochs: int = 0  # trained so far


@dataclass(frozen=True, slots=True)
class HalvingStage:
    """A stage of successive halving, at whose end candidates are compared."""

    epoch: int  # in which it ends
    candidates: int  # number of those that train to its end


def draw(bounds: Sequence[tuple[float, float]], points: int, *, seed: int) -> list[list[float]]:
    """Draw points that fill the box between bounds evenly, on a log scale.

    All of them are drawn before the first is tried, because successive halving compares
    candidates side by side. So Optuna samples and nothing else: a sampler that learns from
    results would have none yet. Halton's sequence, scrambled by the seed, leaves smaller
    gaps than independent draws, for any number of points.

    Args:
        bounds: lowest and highest value of each dimension, above 0.
        points: number of points.
        seed: seed of the scrambling.
    """
    import optuna  # takes a second, and most recipes draw nothing

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        sampler = optuna.samplers.QMCSampler(qmc_type="halton", scramble=True, seed=seed)
    study = optuna.create_study(sampler=sampler)
    space: dict[str, optuna.distributions.BaseDistribution] = {
        f"{place:04}": optuna.distributions.FloatDistribution(low, high, log=True)
        for place, (low, high) in enumerate(bounds)
    }
    drawn = [study.ask(space).params for _ in range(points)]
    return [[point[name] for name in space] for point in drawn]


def choose(trials: Sequence[Trial], samples: int) -> int:
    """Return the index of the best trial, the first of `rank`.

    >>> a = Trial(weights={}, accuracy=0.90, kl=0.1, saliency_pearson=0.8)
    >>> b = Trial(weights={}, accuracy=0.89, kl=0.2, saliency_pearson=0.9)
    >>> choose([a, b], 100)
    1
    >>> choose([a, b], 100_000)
    0
    """
    return rank(trials, samples)[0]


def rank(trials: Sequence[Trial], samples: int) -> list[int]:
    """Return the trials' indices, the best first.

    Those whose accuracy lies within one standard error of the best come first, ordered
    by saliency agreement: on these series their accuracies cannot be distinguished, so the
    standard error bounds what better saliency may cost. The others follow by accuracy. Ties, and
    all of the first where the teacher has no maps, are ordered by KL, then by place.

    Args:
        trials: one trial or more.
        samples: number of validation series behind each accuracy.
    """
    best = max(trial.accuracy for trial in trials)
    slack = math.sqrt(best * (1 - best) / samples)

    def order(index: int) -> tuple[bool, float, float]:
        trial = trials[index]
        far = trial.accuracy < best - slack
        return far, -(trial.accuracy if far else trial.saliency_pearson or 0.0), trial.kl

    return sorted(range(len(trials)), key=order)


def halving_schedule(
    candidates: int, *, before: int, epochs: int, eta: int, first: float
) -> list[HalvingStage]:
    """Return the stages, the last at the end of training.

    The last stage ends with the training, the one before it at 1/eta of the way there, and so
    on, while each has eta times as many candidates as the next (rounded up). A training too
    short for all of its stages has fewer.

    Args:
        candidates: number of candidates in the first stage.
        before: epochs that no candidate is judged on, because an objective has yet to join.
        epochs: length of the whole training.
        eta: number of candidates of which one advances; at least 2.
        first: least share of the epochs after `before` that every candidate trains.

    >>> stages = halving_schedule(9, before=0, epochs=90, eta=3, first=0.1)
    >>> [(stage.epoch, stage.candidates) for stage in stages]
    [(10, 9), (30, 3), (90, 1)]
    >>> stages = halving_schedule(5, before=30, epochs=90, eta=3, first=0.1)
    >>> [(stage.epoch, stage.candidates) for stage in stages]
    [(50, 5), (90, 2)]
    """
    ends = [epochs]
    parts = eta
    while parts <= candidates and parts * first <= 1:
        end = before + math.ceil((epochs - before) / parts)
        if end == ends[-1]:
            break
        ends.append(end)
        parts *= eta
    stages = []
    for end in reversed(ends):
        stages.append(HalvingStage(end, candidates))
        candidates = math.ceil(candidates / eta)
    return stages


def run_successive_halving(
    stages: Sequence[HalvingStage], train: Callable[[int, int], Trial], samples: int
) -> tuple[list[list[Trial]], int]:
    """Train candidates stage by stage, in each only the best of the one before.

    Args:
        stages: stages of `halving_schedule`.
        train: trains a candidate to the end of a stage, both by number, and returns its trial.
        samples: number of validation series behind each accuracy.

    Returns:
        The trials of each candidate, one a stage that it reached, and the index of the best of
        the last stage. A candidate that was left behind is never chosen, however it would have
        ended.
    """
    alive = list(range(stages[0].candidates))
    scores: list[list[Trial]] = [[] for _ in alive]
    for number, stage in enumerate(stages):
        alive = sorted(alive[: stage.candidates])
        for candidate in alive:
            scores[candidate].append(train(candidate, number))
        order = rank([scores[candidate][-1] for candidate in alive], samples)
        alive = [alive[place] for place in order]
    return scores, alive[0]


def weight_candidates(
    weights: Sequence[Weight], *, points: int, seed: int
) -> list[tuple[float, ...]]:
    """Return every combination of weights to try.

    All combinations of the lists; where weights are ranges, for each of the points that are
    drawn from all ranges together.

    Args:
        weights: weight of each objective: a value, several, or a range.
        points: number of points drawn from the ranges.
        seed: seed of the draw.
    """
    bounds = [(weight.low, weight.high) for weight in weights if isinstance(weight, Range)]
    drawn = draw(bounds, points, seed=seed) if bounds else [[]]
    candidates: list[tuple[float, ...]] = []
    for point in drawn:
        samples = iter(point)
        candidates += itertools.product(*[_options(weight, samples) for weight in weights])
    return candidates


def search_weights(
    stages: Sequence[HalvingStage],
    train: Callable[[int, int], Trial],
    *,
    keys: Sequence[str],
    folders: Sequence[Path],
    samples: int,
) -> tuple[list[list[Trial]], int]:
    """Train the candidates stage by stage, each resumed from the trials in its folder.

    Args:
        stages: stages of `halving_schedule`.
        train: trains a candidate to the end of a stage, both by number, and returns its trial.
        keys: key of all that each candidate depends on.
        folders: folder of each candidate.
        samples: number of validation series behind each accuracy.

    Returns:
        As `run_successive_halving`.
    """

    def resume(candidate: int, number: int) -> Trial:
        folder, key = folders[candidate], keys[candidate]
        trials = load_candidate(folder, key)
        if number == len(trials):
            trials.append(train(candidate, number))
            save_candidate(folder, key, trials)
        return trials[number]

    return run_successive_halving(stages, resume, samples)


def load_candidate(folder: Path, key: str) -> list[Trial]:
    """Return the trials of a candidate before a kill, one a stage.

    A folder of another search is emptied: its checkpoint may lie behind the stage to come.
    """
    try:
        saved = read_json(folder / CANDIDATE)
    except DataError:
        saved = {}
    if saved.get("key") == key:
        return [Trial(**trial) for trial in saved["judged"]]
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    save_candidate(folder, key, [])
    return []


def save_candidate(folder: Path, key: str, trials: Sequence[Trial]) -> None:
    """Write the trials of a candidate, whole or not at all."""
    write_json(folder / CANDIDATE, {"key": key, "judged": [asdict(trial) for trial in trials]})


def search_summary(
    stages: Sequence[HalvingStage], trials: Sequence[Sequence[Trial]], chosen: int
) -> dict[str, Any]:
    """Return every candidate, the chosen one, and the cost of a search, as plain values.

    Args:
        stages: stages of the search.
        trials: trials of each candidate, one a stage that it reached.
        chosen: index of the chosen candidate.
    """
    return {
        "trials": [
            {
                **asdict(of_candidate[-1]),
                "ended": _ended(of_candidate, stages),
                "rungs": [_without_weights(trial) for trial in of_candidate],
            }
            for of_candidate in trials
        ],
        "chosen": chosen,
        "rungs": [asdict(stage) for stage in stages],
        "epochs": {
            "trained": sum(of_candidate[-1].epochs for of_candidate in trials),
            "of_all_in_full": len(trials) * stages[-1].epoch,
        },
    }


def _options(weight: Weight, samples: Iterator[float]) -> tuple[float, ...]:
    if isinstance(weight, Range):
        return (next(samples),)
    return weight if isinstance(weight, tuple) else (weight,)


def _ended(trials: Sequence[Trial], stages: Sequence[HalvingStage]) -> str:
    if len(trials) < len(stages):
        return f"left behind at rung {len(trials)} of {len(stages)}"
    if trials[-1].epochs < stages[-1].epoch:
        return "no improvement within patience"
    return "trained to the end"


def _without_weights(trial: Trial) -> dict[str, Any]:
    return {name: value for name, value in asdict(trial).items() if name != "weights"}
