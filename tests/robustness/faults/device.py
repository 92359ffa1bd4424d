"""Faults that meet the device program: kill -9 and a full disk at each of its steps."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

from faults import disks
from faults.board import LocalBoard, Ran
from faults.campaign import Case, Found, found
from faults.fault_injector import fill

Trap = dict[str, Any] | None
_LATEST_S = 0.8  # a command is over by then
_WRITES = {"open", "os.mkdir", "os.rename", "os.symlink"}  # steps that may want space
_FREE_STEP, _FREE_MOST = 24 << 10, 480 << 10  # bytes; an installation takes less


@dataclass(frozen=True, slots=True)
class Work:
    """A command of the device program, and the state of the board in which it has work to do."""

    state: str
    run: Callable[[Trap], Ran]
    settles: str = ""  # action that a service runs before it starts, where it matters here


def prepare(board: LocalBoard) -> dict[str, Work]:
    """Lead a board through the states that the commands begin in; return the commands."""
    _, one = board.deploy("one")
    board.record_answers(one)
    board.save("one")
    two = json.loads(board.install("two").stdout)["name"]
    board.save("installed")
    board.validate(two)
    board.save("validated")
    board.releases("switch", two)
    board.record_answers(two)
    board.save("switched")
    signers = ("--allowed-signers", board.goods.signers)
    for threads in ("2", "3"):  # releases that may go
        board.releases("install", board.goods.bundle("one"), *signers, "--threads", threads)
    board.save("crowded")
    board.restore("one")
    sick = json.loads(board.install("broken").stdout)["name"]
    board.save("sick")
    works = {
        "install": Work("one", lambda trap: board.install("two", trap)),
        "validate": Work("installed", lambda trap: board.validate(two, trap)),
        "switch": Work("validated", lambda trap: board.releases("switch", two, trap=trap)),
        "switch, unhealthy": Work(
            "sick", lambda trap: board.releases("switch", sick, "--force", trap=trap), "settle"
        ),
        "rollback": Work("switched", lambda trap: board.releases("rollback", trap=trap)),
        "prune": Work("crowded", lambda trap: board.releases("prune", "--keep", "2", trap=trap)),
    }
    _interrupt(board, works["switch"])
    board.save("interrupted")
    works["settle"] = Work("interrupted", lambda trap: board.releases("settle", trap=trap))
    return works


def kills(board: LocalBoard, works: dict[str, Work]) -> Iterator[Case]:
    """Yield kill -9 at each step of each command."""
    for name, work in works.items():
        for at, step in enumerate(steps(board, work), 1):
            trap = {"at": at, "do": "kill", "log": log_of(board)}
            run = partial(_harmed, board, work, partial(work.run, trap))
            yield Case("kill -9 of the device program", f"{name}, step {at}: {step}", run)


def late_kills(board: LocalBoard, works: dict[str, Work], count: int, seed: int) -> Iterator[Case]:
    """Yield kill -9 at random moments, which also lie between two steps."""
    rng = Random(seed)
    for number in range(count):
        name, work = rng.choice(sorted(works.items()))
        moment = rng.uniform(0.05, _LATEST_S)
        run = partial(_harmed, board, work, partial(_killed, board, work, moment))
        yield Case("kill -9 at a random moment", f"{number}: {name}, {moment:.3f} s", run)


def full_disks(board: LocalBoard, works: dict[str, Work]) -> Iterator[Case]:
    """Yield a disk that is full from each write of each command on; the root is a disk."""
    for name, work in works.items():
        for at, step in enumerate(steps(board, work), 1):
            if step not in _WRITES:
                continue
            trap = {"at": at, "do": "fill", "log": log_of(board)}
            run = partial(_harmed, board, work, partial(work.run, trap))
            yield Case("disk full from a write on", f"{name}, step {at}: {step}", run)


def little_space(board: LocalBoard, works: dict[str, Work]) -> Iterator[Case]:
    """Yield disks with too little space from the beginning."""
    for free in range(0, _FREE_MOST, _FREE_STEP):
        run = partial(_nearly_full, board, works["install"], free)
        yield Case("disk with little space", f"install, {free} bytes free", run)
    for name in ("rollback", "settle", "prune"):
        run = partial(on_full_disk, board, works[name])
        yield Case("disk without space", f"{name}, 0 bytes free", run)
    yield Case("disk without space", "prune, full of uploads", partial(_full_of_uploads, board))


def steps(board: LocalBoard, work: Work) -> list[str]:
    """Return the steps of a command."""
    board.restore(work.state)
    log = Path(log_of(board))
    log.unlink(missing_ok=True)
    work.run({"at": 0, "do": "count", "log": str(log)})
    # Random names would differ from run to run, and cases are identified by their names.
    return [line.split(" ")[0] for line in log.read_text().splitlines()]


def _harmed(board: LocalBoard, work: Work, harm: Callable[[], Ran]) -> Found:
    def harmed() -> Ran:
        ran = harm()
        if work.settles:
            board.releases(work.settles)
        return ran

    board.restore(work.state)
    return found(board, harmed, heal=lambda: disks.heal(board.root))


def on_full_disk(board: LocalBoard, work: Work) -> Found:
    """Run a command on a disk without a free byte, where it must succeed."""
    board.restore(work.state)
    disks.leave(board.root, 0)

    def harm() -> Ran:
        ran = work.run(None)
        return ran if not ran.code else Ran(1, ran.stdout, ran.stderr)  # a refusal is no success

    return found(board, harm, heal=lambda: disks.heal(board.root))


def _full_of_uploads(board: LocalBoard) -> Found:
    """Fill a disk with what deployments have sent; `prune` makes room for the next one."""
    board.restore("switched")
    (board.root / "incoming").mkdir(exist_ok=True)
    fill(board.root / "incoming" / "bundle.zip")
    return found(board, lambda: board.releases("prune", "--keep", "2"))


def _nearly_full(board: LocalBoard, work: Work, free: int) -> Found:
    board.restore(work.state)
    disks.leave(board.root, free)
    return found(board, lambda: work.run(None), heal=lambda: disks.heal(board.root))


def _killed(board: LocalBoard, work: Work, moment: float) -> Ran:
    """Run a command and kill it after so many seconds."""
    clock = {"at": 0, "do": "count", "log": log_of(board), "kill_after_s": moment}
    return work.run(clock)


def _interrupt(board: LocalBoard, switch: Work) -> None:
    """Kill a switch when its link has been turned, and nothing confirmed."""
    names = steps(board, switch)
    board.restore(switch.state)
    turned = max(i for i, name in enumerate(names, 1) if name == "subprocess.Popen")
    switch.run({"at": turned, "do": "kill", "log": log_of(board)})
    if not (board.root / "switching.json").exists():
        raise RuntimeError("The switch was not interrupted where it should have been.")


def log_of(board: LocalBoard) -> str:
    """Return the log of steps."""
    return str(board.root.with_name("steps.log"))
