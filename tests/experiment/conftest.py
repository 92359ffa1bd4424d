"""A tiny experiment on real series, run once, which the tests look into."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numba
import pytest
import torch

from edgedistill.experiment import executors, plan
from edgedistill.experiment import run as running
from edgedistill.experiment.plan import Plan
from edgedistill.experiment.results import Row

TINY = """\
recipe:
  data: {limit_per_class: 12}
  teacher: {width: 6, training: {epochs: 3, accelerator: cpu}}
  student: {width: 4, training: {epochs: 2, accelerator: cpu}}
data: [ItalyPowerDemand, GunPoint]
methods:
  kd: {student: {objectives: [{name: kd}]}}
  kd and maps: {student: {objectives: [{name: kd}, {name: tsd_maps}]}}
seeds: [1, 2]
"""


def here(work: Callable[[Any], Any], what: Any) -> Future[Any]:
    """Do work in this process, at once."""
    done: Future[Any] = Future()
    done.set_result(work(what))
    return done


@contextmanager
def local(jobs: int) -> Iterator[executors.Submit]:
    """Stand in for processes: each would take seconds to import torch."""
    threads = torch.get_num_threads(), numba.get_num_threads()
    yield here
    torch.set_num_threads(threads[0])
    numba.set_num_threads(threads[1])


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run experiments in this process."""
    monkeypatch.setattr(executors, "local", local)


@pytest.fixture(scope="session")
def tiny() -> Plan:
    return plan.parse(TINY)


@pytest.fixture(scope="session")
def finished(tiny: Plan, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Row]]:
    """The tiny experiment, run in this process."""
    out = tmp_path_factory.mktemp("experiment")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(executors, "local", local)
        return out, running.run(tiny, out)
