"""Executors of an experiment's jobs: processes of this machine, or a Ray cluster.

Nothing heavy is imported here: a new process sets its number of threads before NumPy and
torch load.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import Any, Literal

from edgedistill import LIBRARY_DEFAULTS, set_library_defaults
from edgedistill.errors import MachineError

Submit = Callable[[Callable[[Any], Any], Any], "Future[Any]"]  # function and its argument
Kind = Literal["local", "ray"]


@contextmanager
def local(jobs: int) -> Iterator[Submit]:
    """Yield a function that submits work to a pool of processes, with one thread each.

    They end when this process ends, however it ends: stage folders are whole or absent, and
    a run that resumes after a kill must be alone with them.

    Args:
        jobs: number of processes.
    """
    others = set(multiprocessing.active_children())
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(jobs, mp_context=context, initializer=_init_process)
    try:
        yield pool.submit
    except BaseException:
        for process in set(multiprocessing.active_children()) - others:
            process.terminate()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


@contextmanager
def on_ray() -> Iterator[Submit]:
    """Yield a function that submits work as Ray tasks, with one core each.

    The cluster is the one that RAY_ADDRESS names or that runs on this machine; without one, one
    is started here. Its machines must see this folder and its data under the same paths.

    Raises:
        MachineError: Ray is not installed.
    """
    try:
        import ray
    except ImportError as error:
        raise MachineError(
            "Ray is not installed here. Run: python -m pip install 'edgedistill[ray]', or take "
            "the local executor."
        ) from error
    ours = not ray.is_initialized()
    if ours:
        ray.init(log_to_driver=False, logging_level="error")
    set_library_defaults()
    # Processes elsewhere inherit nothing.
    variables = {name: os.environ[name] for name in LIBRARY_DEFAULTS}
    task = ray.remote(num_cpus=1, runtime_env={"env_vars": variables})(_in_folder)
    folder = Path.cwd()
    try:
        yield lambda work, argument: task.remote(folder, work, argument).future()
    finally:
        if ours:
            ray.shutdown()


def _in_folder(folder: Path, work: Callable[[Any], Any], argument: Any) -> Any:
    os.chdir(folder)  # relative paths of a recipe begin where the command was started
    return work(argument)


def _init_process() -> None:
    """Set up a process: one thread, Ctrl-C left to the parent, exit with the parent."""
    os.environ["OMP_NUM_THREADS"] = "1"
    set_library_defaults()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    Thread(target=_exit_with_parent, daemon=True).start()


def _exit_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)  # incomplete folders have temporary names
