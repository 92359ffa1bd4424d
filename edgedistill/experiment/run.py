"""Run the missing jobs of a plan, and keep the table of results up to date."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from edgedistill.device.telemetry import cores, environment
from edgedistill.errors import MachineError, UsageError
from edgedistill.experiment import executors, results
from edgedistill.experiment.executors import Kind, Submit
from edgedistill.experiment.jobs import (
    DatasetJob,
    Failure,
    PreparedDataset,
    Scores,
    StudentJob,
    attempt,
    describe_dataset,
    distill,
    prepare_dataset,
    release_work_folder,
)
from edgedistill.experiment.plan import Plan
from edgedistill.experiment.results import RESULTS, Row
from edgedistill.io.files import write_json, write_text
from edgedistill.io.progress import ProgressCallback, ignore_progress
from edgedistill.pipeline.stage_folder import now, versions
from edgedistill.pipeline.stages.data import DataCallback, ignore_data

PLAN, ENVIRONMENT, RUNS = "plan.yaml", "environment.json", "runs"


def run(
    plan: Plan,
    out: Path,
    *,
    jobs: int | None = None,
    executor: Kind = "local",
    on_progress: ProgressCallback = ignore_progress,
    on_data: DataCallback = ignore_data,
) -> list[Row]:
    """Run an experiment and return its table; runs that an earlier call finished are read.

    Args:
        plan: sets, methods, seeds.
        out: folder for the table and for every teacher and student.
        jobs: number of processes of the local executor; None for one for each core.
        executor: "local" for this machine, "ray" for a Ray cluster.
        on_progress: callback of the progress, in sets and in runs.
        on_data: callback of what was read for each set, under its name in the plan, before the
            first teacher; a set that cannot be read is a failure of its runs.

    Raises:
        UsageError: `jobs` is invalid.
        MachineError: Ray is missing, or a process died. A run that fails is a row of the table.
    """
    out = out.resolve()
    write_text(out / PLAN, plan.text)
    write_json(
        out / ENVIRONMENT,
        {"created": now(), "executor": executor, "environment": {**environment(), **versions()}},
    )
    with _submit(executor, jobs, len(plan.runs)) as submit:
        experiment = _Experiment(plan, out, submit, on_progress)
        experiment.describe(on_data)
        return experiment.run()


@contextmanager
def _submit(executor: Kind, jobs: int | None, runs: int) -> Iterator[Submit]:
    """Yield the function that submits work to an executor."""
    if jobs is not None and (executor == "ray" or jobs < 1):
        raise UsageError(
            f"jobs is {jobs}; it must be at least 1, and is for the local executor alone: a Ray "
            "cluster runs as many as it has cores."
        )
    if executor == "ray":
        with executors.on_ray() as submit:
            yield submit
        return
    try:
        with executors.local(min(jobs or cores(), runs)) as submit:
            yield submit
    except BrokenProcessPool as error:
        raise MachineError(
            "A process of the experiment died, maybe for want of memory. Run it again to go on, "
            "with fewer --jobs."
        ) from error


class _Experiment:
    """State of a running experiment: pending jobs and rows of the table."""

    def __init__(
        self, plan: Plan, out: Path, submit: Submit, on_progress: ProgressCallback
    ) -> None:
        self._plan, self._out, self._submit, self._on_progress = plan, out, submit, on_progress
        self._rows: dict[tuple[str, str, int], Row] = {}
        self._pending: dict[Future[Any], tuple[str, tuple[str, int] | None]] = {}  # None: teacher
        self._references: dict[str, Scores] = {}
        self._teachers_done = 0  # sets whose teacher is complete, or failed
        self._runs = {name: self._runs_of(name) for name in plan.sets}

    def describe(self, on_data: DataCallback) -> None:
        """Read every set, and report what was read in the order of the plan."""
        futures = {
            name: self._submit(partial(attempt, describe_dataset), self._job(name))
            for name in self._plan.sets
        }
        for name, future in futures.items():
            data = future.result()
            if not isinstance(data, Failure):  # the same failure meets the teacher, and is a row
                on_data(replace(data, name=name))

    def run(self) -> list[Row]:
        """Prepare every set, and distill every student as soon as its teacher is complete."""
        self._write()
        try:
            for name in self._plan.sets:
                future = self._submit(partial(attempt, prepare_dataset), self._job(name))
                self._pending[future] = (name, None)
            while self._pending:
                for future in wait(self._pending, return_when=FIRST_COMPLETED).done:
                    self._collect(*self._pending.pop(future), future.result())
        finally:
            for name in self._plan.sets:
                release_work_folder(self._folder(name))
        return self._sorted()

    def _collect(self, name: str, run_key: tuple[str, int] | None, result: Any) -> None:
        """Record the result of a job, and submit the jobs that depend on it."""
        if run_key is None:
            self._start_students(name, result)
        else:
            self._record(name, run_key, result)
        self._write()
        self._on_progress("runs", len(self._rows), len(self._plan.runs))

    def _start_students(self, name: str, prepared: PreparedDataset | Failure) -> None:
        self._teachers_done += 1
        self._on_progress("teachers", self._teachers_done, len(self._plan.sets))
        if isinstance(prepared, Failure):
            for run_key in self._runs[name]:
                self._record(name, run_key, prepared)
            return
        self._references[name] = prepared.references
        for run_key, run in self._runs[name].items():
            if run.name in prepared.done:
                self._record(name, run_key, prepared.done[run.name])
            else:
                self._pending[self._submit(partial(attempt, distill), run)] = (name, run_key)

    def _record(self, name: str, run_key: tuple[str, int], result: Scores | Failure) -> None:
        method, seed = run_key
        error = " ".join(result.message.split()) if isinstance(result, Failure) else None
        scores: Scores = {} if isinstance(result, Failure) else result
        values = {**scores, **self._references.get(name, {})}
        numbers = {key: float(v) for key in results.NUMBERS if (v := values.get(key)) is not None}
        weights = str(values.get("weights", ""))
        self._rows[name, method, seed] = Row(name, method, seed, error, numbers, weights)

    def _write(self) -> None:
        results.write(self._out / RESULTS, self._sorted())

    def _sorted(self) -> list[Row]:
        return [self._rows[key] for key in self._plan.runs if key in self._rows]

    def _runs_of(self, name: str) -> dict[tuple[str, int], StudentJob]:
        return {
            (method, seed): StudentJob(
                name=f"{method}-{seed}",
                shared_recipe=self._plan.sets[name],
                recipe=self._plan.methods[name, method].model_copy(update={"seed": seed}),
                folder=self._folder(name),
            )
            for set_name, method, seed in self._plan.runs
            if set_name == name
        }

    def _job(self, name: str) -> DatasetJob:
        return DatasetJob(
            shared_recipe=self._plan.sets[name],
            methods=tuple(r for (set_name, _), r in self._plan.methods.items() if set_name == name),
            runs=tuple(self._runs[name].values()),
            folder=self._folder(name),
        )

    def _folder(self, name: str) -> Path:
        return self._out / RUNS / name
