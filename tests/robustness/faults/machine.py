"""Faults of the machine: clocks that jump, disks that may not be written, what is not installed."""

from __future__ import annotations

import threading
import time
import venv
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from random import Random

import numpy as np

from edgedistill.device.releases.layout import INTERPRETER
from edgedistill.errors import MachineError
from faults.board import LocalBoard, Ran
from faults.campaign import Case, Found, found
from faults.device import Work
from faults.disks import read_only

# As libfaketime takes them: an offset or a moment, and what each look at the clock adds.
_WRONG = {
    "a year ahead": "+1y",
    "a year behind": "-1y",
    "1970, as a board without a battery has it": "@1970-01-02 00:00:00",
    "2038, after 32 bits": "@2038-01-20 00:00:00",
}
_JUMPING = {
    "an hour ahead at each look": "@2026-06-01 00:00:00 i3600",
    "an hour back at each look": "@2026-06-01 00:00:00 i-3600",
}
_NOT_WAITING = ("install", "validate", "prune")
PYTHONS = {"nothing": (), "numpy": ("numpy", "numpy.libs")}  # all that a bare Python has


def clocks(board: LocalBoard, works: dict[str, Work]) -> Iterator[Case]:
    """Yield clocks that are wrong, and that jump while a command runs."""
    for clock, spec in (_WRONG | _JUMPING).items():
        # A program that waits needs a clock that does not jump, and libfaketime cannot show it two.
        names = _NOT_WAITING if clock in _JUMPING else works
        for name in names:
            environment = {"LD_PRELOAD": str(faketime()), "FAKETIME": spec}
            if clock in _JUMPING:
                environment["FAKETIME_DONT_FAKE_MONOTONIC"] = "1"
            run = partial(_at_another_time, board, works[name], environment)
            yield Case("clock jumps", f"{name}, {clock}", run)


def locked_disks(board: LocalBoard, works: dict[str, Work]) -> Iterator[Case]:
    """Yield a root, and folders in it, that may only be read."""
    for place in (".", "releases"):
        for name, work in works.items():
            yield Case("read-only folder", f"{name}, {place}", partial(_locked, board, work, place))


def collisions(board: LocalBoard, works: dict[str, Work], count: int, seed: int) -> Iterator[Case]:
    """Yield two commands at once, on a board that both have work on."""
    rng = Random(seed)
    for number in range(count):
        names = rng.choices(sorted(set(works) - {"switch, unhealthy", "settle"}), k=2)
        pause = rng.uniform(0, 0.6)
        run = partial(_collide, board, [works[name] for name in names], pause)
        yield Case("two commands at once", f"{number}: {' and '.join(names)}, {pause:.3f} s", run)


def missing_packages(board: LocalBoard, works: dict[str, Work], folder: Path) -> Iterator[Case]:
    """Yield boards whose Python lacks NumPy, or a runtime."""
    for kind, packages in PYTHONS.items():
        for name, work in works.items():
            bare = partial(bare_python, folder / f"python-with-{kind}", packages)
            run = partial(_without, board, work, bare)
            yield Case("missing runtime", f"{name}, a Python with {kind}", run)


def interpreters(board: LocalBoard, works: dict[str, Work], folder: Path) -> Iterator[Case]:
    """Yield releases whose recorded interpreter is gone, or has lost its packages."""
    pythons = {
        "gone": lambda: folder / "python-that-is-gone",
        "without NumPy": partial(bare_python, folder / "python-with-nothing", PYTHONS["nothing"]),
    }
    for kind, python in pythons.items():
        for name in ("switch", "rollback", "settle"):
            run = partial(_with_interpreter, board, works[name], python)
            yield Case("interpreter of the releases", f"{name}, {kind}", run)


def bare_python(folder: Path, packages: tuple[str, ...]) -> Path:
    """Return a Python that has nothing but some packages of this one's."""
    python = folder / "bin" / "python"
    if not python.exists():
        venv.create(folder, symlinks=True)
        (site,) = folder.glob("lib/python*/site-packages")
        for name in packages:
            source = Path(np.__file__).parents[1] / name
            if source.exists():
                (site / name).symlink_to(source)
    return python


def faketime() -> Path:
    """Return the library that shows a program another clock.

    Raises:
        MachineError: it is not installed.
    """
    found = sorted(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))
    if not found:
        raise MachineError("libfaketime is not installed. Install it: apt-get install faketime")
    return found[0]


def _at_another_time(board: LocalBoard, work: Work, clock: dict[str, str]) -> Found:
    def harm() -> Ran:
        board.environment = clock
        try:
            return work.run(None)
        finally:
            board.environment = {}

    board.restore(work.state)
    return found(board, harm)


def _locked(board: LocalBoard, work: Work, place: str) -> Found:
    def harm() -> Ran:
        with read_only(board.root / place):
            return work.run(None)

    board.restore(work.state)
    return found(board, harm)


def _without(board: LocalBoard, work: Work, bare: partial[Path]) -> Found:
    def harm() -> Ran:
        board.python = bare()
        try:
            return work.run(None)
        finally:
            board.python = None

    board.restore(work.state)
    return found(board, harm)


def _with_interpreter(board: LocalBoard, work: Work, python: Callable[[], Path]) -> Found:
    board.restore(work.state)
    for link in board.root.glob(f"releases/*/{INTERPRETER}"):
        link.unlink()
        link.symlink_to(python())
    return found(board, lambda: work.run(None))


def _collide(board: LocalBoard, works: list[Work], pause: float) -> Found:
    """Run two commands at once; return the worse result."""
    both: dict[int, Ran] = {}

    def begin(number: int) -> None:
        time.sleep(number * pause)
        both[number] = works[number].run(None)

    def harm() -> Ran:
        threads = [threading.Thread(target=begin, args=(number,)) for number in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return max(both.values(), key=lambda ran: (not ran.is_clear, ran.code))

    board.restore(works[0].state)
    return found(board, harm)
