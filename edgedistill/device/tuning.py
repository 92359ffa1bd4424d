"""Tuning of ONNX Runtime's session settings for a model on this machine.

Two steps: threads first, then the other settings around the winner. A setting is taken only if its
interval lies below that of the setting before, and never if the logits change.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from edgedistill.bundle.reader import MANIFEST, Bundle, Model
from edgedistill.bundle.writer import rewrite
from edgedistill.device.benchmark import ROUNDS, measure_interleaved
from edgedistill.device.runtime import Runtime, start
from edgedistill.device.telemetry import cores
from edgedistill.errors import UsageError
from edgedistill.evaluation.metrics import Estimate
from edgedistill.io import files
from edgedistill.io.arrays import Floats
from edgedistill.runtimes.onnxruntime import OrtRuntime
from edgedistill.runtimes.session_settings import DEFAULT, SessionSettings

TOLERANCE = 1e-5  # of the largest |logit|: the order of sums may change, an 8-bit step may not
_THREADS = (1, 2, 4)  # networks of this size have no work for more


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """Logit error and time of one candidate."""

    settings: SessionSettings
    logit_error: float  # largest, against the defaults, over the largest |logit| or 1
    p50_ms: Estimate | None  # None: it changes the logits, so it was not timed


@dataclass(frozen=True, slots=True, kw_only=True)
class Tuning:
    """Trials and result of a run."""

    model: str
    trials: tuple[Trial, ...]  # the defaults first
    settings: SessionSettings  # the fastest; the defaults where nothing is surely faster
    gain: float  # median time under the defaults over that under `settings`


def tune(model: Model, series: Floats, *, rounds: int = ROUNDS) -> Tuning:
    """Find the session settings of a model on this machine.

    Args:
        model: model for ONNX Runtime.
        series: preprocessed series, (N, C, T); the first is timed, all must keep their logits.
        rounds: number of blocks of timed calls of each candidate.

    Raises:
        UsageError: another runtime runs the model.
        MachineError: ONNX Runtime is missing.
        ModelError: the model cannot be run.
    """
    if model.runtime != OrtRuntime.name:
        raise UsageError(
            f"Model {model.name!r} runs in {model.runtime!r}, which has no session settings to "
            f"tune. Choose a model for {OrtRuntime.name!r} with --model."
        )
    expected = _start(model, DEFAULT).logits(series)
    best, gain, found = DEFAULT, 1.0, list[Trial]()
    for candidates in (_threaded, _around):
        trials = _measure_trials(model, [best, *candidates(best, model)], series, expected, rounds)
        times = {trial.settings: trial.p50_ms for trial in trials if trial.p50_ms is not None}
        before, best = best, fastest(times)
        gain *= times[before].value / times[best].value
        found += trials[1:] if found else trials
    return Tuning(model=model.name, trials=tuple(found), settings=best, gain=gain)


def write_tuned(bundle: Bundle, path: Path, sessions: Mapping[str, SessionSettings]) -> None:
    """Write a copy of an open bundle in which models have other session settings.

    Args:
        bundle: open bundle, unchanged unless `path` is its own.
        path: path of the copy, as for `edgedistill.bundle.writer.write`.
        sessions: settings by model name; other models keep theirs.

    Raises:
        UsageError: `path` is taken by something else, or there is no such model.
        MachineError: the disk refuses.
    """
    chosen = {bundle.model(name).name: settings for name, settings in sessions.items()}
    models = [
        {**entry, "session": chosen[entry["name"]].to_dict()} if entry["name"] in chosen else entry
        for entry in bundle.manifest["models"]
    ]
    facts = {**bundle.manifest, "models": models}
    rewrite(bundle, path, lambda root: files.write_json(root / MANIFEST, facts))


def fastest(times: Mapping[SessionSettings, Estimate]) -> SessionSettings:
    """Return the settings to take: the first, unless others are surely faster.

    >>> one, two = SessionSettings(), SessionSettings(threads=2)
    >>> fastest({one: Estimate(3.0, 2.9, 3.1), two: Estimate(2.6, 2.5, 2.8)}).threads
    2
    >>> fastest({one: Estimate(3.0, 2.9, 3.1), two: Estimate(2.8, 2.7, 2.95)}).threads
    1
    """
    first = next(iter(times))
    surely = [settings for settings, time in times.items() if time.high < times[first].low]
    return min(surely, key=lambda settings: times[settings].value, default=first)


def _threaded(best: SessionSettings, _: Model) -> Iterable[SessionSettings]:
    for threads in _THREADS[1:]:
        if threads <= cores():
            yield replace(best, threads=threads)
            yield replace(best, threads=threads, spinning=False)


def _around(best: SessionSettings, model: Model) -> Iterable[SessionSettings]:
    yield replace(best, memory_arena=False)
    if model.path.suffix != ".ort":  # whose graph was optimized when it was written
        yield replace(best, optimization="extended")
    if best.threads > 1:
        yield replace(best, execution="parallel")


def _measure_trials(
    model: Model,
    candidates: Sequence[SessionSettings],
    series: Floats,
    expected: Floats,
    rounds: int,
) -> list[Trial]:
    """Return a trial of each candidate; the first, the present setting, is always timed."""
    runtimes = [_start(model, settings) for settings in candidates]
    errors = [_error(expected, runtime.logits(series)) for runtime in runtimes]
    sound = [0, *(index for index, error in enumerate(errors) if index and error <= TOLERANCE)]
    times = measure_interleaved([runtimes[index] for index in sound], series[:1], rounds=rounds)
    p50_ms = dict(zip(sound, times, strict=True))
    return [
        Trial(settings=settings, logit_error=error, p50_ms=p50_ms.get(index))
        for index, (settings, error) in enumerate(zip(candidates, errors, strict=True))
    ]


def _start(model: Model, settings: SessionSettings) -> Runtime:
    return start(replace(model, session=settings), threads=settings.threads)


def _error(expected: Floats, actual: Floats) -> float:
    """Return the largest difference of logits over the largest |logit| or 1."""
    return float(np.abs(expected - actual).max()) / max(1.0, float(np.abs(expected).max()))
