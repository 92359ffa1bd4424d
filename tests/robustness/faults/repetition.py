"""Commands that are interrupted, then repeated as their message tells, until they succeed.

The board must then be as one uninterrupted run leaves it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from faults.board import LocalBoard, Ran
from faults.campaign import Case, Found
from faults.deployment import Workstation
from faults.device import Work, log_of, steps
from faults.faulty_network import FaultyNetwork

_COMMANDS = {"fallback", "prune", "rollback", "settle", "switch"}
_MOST = 8  # repetitions
# Of process numbers, times and measurements: what differs from run to run.
_VARYING = {"lock", "deploying", "release.json", "report.json", "fallback", "failures"}
State = dict[str, str]


def killed(board: LocalBoard, works: dict[str, Work]) -> Iterator[Case]:
    """Yield kill -9 of the device program at each step, repeated."""
    for name in sorted(_COMMANDS & works.keys()):
        work = works[name]
        for at, step in enumerate(steps(board, work), 1):
            trap = {"at": at, "do": "kill", "log": log_of(board)}
            run = partial(
                _repeated, board, work.state, partial(work.run, trap), partial(work.run, None)
            )
            yield Case("command killed, and repeated", f"{name}, step {at}: {step}", run)


def cut(station: Workstation, count: int) -> Iterator[Case]:
    """Yield connections that break at points from the first byte to the last, either way."""
    for name, (state, command) in station.commands().items():
        for answers in (False, True):
            station.board.restore(state)
            with FaultyNetwork(station.server.port, answers=answers) as line:
                command(line.port)
            for number in range(count):
                at = round((number + 0.5) / count * line.passed)
                where = "to the workstation" if answers else "to the board"
                harm = partial(_cut, station, command, at, answers)
                again = partial(command, station.server.port)
                run = partial(_repeated, station.board, state, harm, again)
                yield Case(
                    "command cut, and repeated", f"{name}, {where}, {number}: byte {at}", run
                )


def snapshot(root: Path) -> State:
    """Return what is in a root: links with their targets, files with their hashes."""
    found = {}
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root).as_posix()
        if path.is_symlink():
            found[name] = "" if path.name in _VARYING else f"-> {path.readlink()}"
        elif path.is_file():
            varies = path.name in _VARYING
            found[name] = "" if varies else hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def _repeated(
    board: LocalBoard, state: str, harm: Callable[[], Ran], again: Callable[[], Ran]
) -> Found:
    """Harm a command, repeat it, and compare the board with one uninterrupted run."""
    board.restore(state)
    again()
    expected = snapshot(board.root)
    board.restore(state)
    ran = harm()
    stands = board.still_runs()
    after = again()
    for _ in range(_MOST):
        if not after.code:
            break
        after = again()
    last = again()  # who does not know that it was done runs it once more
    unclear = "" if ran.is_clear else (ran.stderr + ran.stdout)[-2000:] or "nothing was said"
    failed = next((f"ended with {r.code}: {r.message}" for r in (after, last) if r.code), "")
    return Found(
        code=ran.code,
        message=ran.message,
        unclear=unclear,
        stands=stands,
        next=failed or _difference(expected, snapshot(board.root)),
    )


def _difference(expected: State, actual: State) -> str:
    names = sorted(k for k in expected.keys() | actual.keys() if expected.get(k) != actual.get(k))
    shown = [f"{name}: {expected.get(name)}, now {actual.get(name)}" for name in names[:5]]
    return "; ".join(shown)


def _cut(station: Workstation, command: Callable[[int], Ran], at: int, answers: bool) -> Ran:
    with FaultyNetwork(station.server.port, strike_at=at, answers=answers) as line:
        return command(line.port)
