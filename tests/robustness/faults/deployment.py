"""Faults of a deployment over SSH, on either side and in between."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import edgedistill
from edgedistill.deployment.connection import Connection, SshOptions, connect
from edgedistill.deployment.hosts import parse
from edgedistill.errors import MachineError
from faults import disks
from faults.board import TRAP, ForkServer, LocalBoard, Ran
from faults.campaign import Case, Found, found
from faults.faulty_network import FaultyNetwork
from faults.machine import PYTHONS, bare_python
from faults.server import Server

_PROGRAM = Path(edgedistill.__file__).with_name("__main__.py")
_PACKAGES = ("asyncssh", "edgedistill.cli", "edgedistill.deployment.deploy")
# Steps of the device program's commands, over which its own cases go one by one
_DEVICE_STEPS = {
    "doctor": (1,),
    "install": (1, 9, 18, 30, 38),
    "validate": (1, 6),
    "switch": (1, 9, 14, 16, 18, 21),
    "prune": (1, 3),
}


class Workstation:
    """Deploys to a board behind an SSH server; the board's root is a folder of this machine."""

    def __init__(self, board: LocalBoard, server: Server, folder: Path) -> None:
        self.board, self.server, self.folder = board, server, folder
        self.fork_server = ForkServer(folder / "workstation", *_PACKAGES)
        self.python = board.fork_server.python(folder / "python")
        self.two = ""  # name of the second bundle's release

    def reach(self, port: int, python: str | Path | None = None) -> list[str | Path]:
        """Return the board's address and the options that reach it."""
        return [
            *(f"127.0.0.1:{port}", "--root", self.board.root, "--python", python or self.python),
            *("--identity", self.server.identity, "--known-hosts", self.server.known_hosts(port)),
        ]

    def words(
        self,
        name: str,
        more: Sequence[str] = (),
        port: int | None = None,
        python: str | Path | None = None,
    ) -> list[str | Path]:
        """Return the command that deploys a bundle."""
        return [
            *("deploy", self.board.goods.bundle(name)),
            *self.reach(port or self.server.port, python),
            *("--allowed-signers", self.board.goods.signers, "--out", self.folder / "reports"),
            *more,
        ]

    def deploy(self, name: str, trap: dict[str, Any] | None = None, **how: Any) -> Ran:
        """Deploy a bundle, in a trap if one is given."""
        head: list[str | Path] = []
        if trap is not None:
            reports = str(self.folder / "reports")
            head = [TRAP, json.dumps({"root": reports, "sends": True, **trap})]
        return self.fork_server.run([*head, _PROGRAM, *self.words(name, **how)])

    def commands(self) -> dict[str, tuple[str, Callable[[int], Ran]]]:
        """Return commands whose message says to repeat them: a saved state, and what runs there."""

        def run(command: str, *more: str | Path) -> Callable[[int], Ran]:
            return lambda port: self.fork_server.run([_PROGRAM, command, *self.reach(port), *more])

        return {
            "rollback": ("both deployed", run("rollback")),
            "trust": ("distrusted", run("trust", "--allowed-signers", self.board.goods.signers)),
            "deploy": ("deployed", lambda port: self.deploy("two", port=port)),
        }

    def prepare(self) -> None:
        """Deploy both bundles once, to record their predictions; the first one stays."""
        for name in ("one", "two"):
            ran = self.deploy(name)
            if ran.code:
                raise RuntimeError(f"The deployment fails without any fault: {ran.stderr}")
            self.board.record_answers(self.board.current() or "")
            if name == "one":
                for path in (self.board.root / "incoming").iterdir():
                    path.unlink()  # so that the program is sent again too
                self.board.save("deployed")
        self.two = self.board.current() or ""
        self.board.save("both deployed")
        (self.board.root / "allowed_signers").unlink()
        self.board.save("distrusted")

    def harmed(self, harm: Callable[[], Ran], heal: Callable[[], None] | None = None) -> Found:
        """Do harm to a board that runs the first bundle, while the second is deployed to it."""
        ended: list[Ran] = []

        def harmed() -> Ran:
            ended.append(harm())
            return ended[0]

        def again() -> tuple[Ran, str]:
            if not ended[0].code:  # it got there in spite of the fault: this was the next one
                return ended[0], self.two
            return self.deploy("two"), self.two

        self.board.restore("deployed")
        return found(self.board, harmed, heal=heal, deploy=again)


def cuts(station: Workstation, count: int, always: int, seed: int) -> Iterator[Case]:
    """Yield connections that break at random bytes, some of them every time."""
    rng = Random(seed)
    with FaultyNetwork(station.server.port) as line:
        station.harmed(lambda: station.deploy("two", port=line.port))
        total = line.passed
    for number in range(count):
        share = rng.random()
        run_case = partial(_cut, station, int(share * total), False)
        yield Case("connection cut while deploying", f"{number}: after {share:.1%}", run_case)
    for number in range(always):
        share = rng.uniform(0, 0.5)
        run_case = partial(_cut, station, int(share * total), True)
        yield Case("connection cut again and again", f"{number}: after {share:.1%}", run_case)


def workstation_kills(station: Workstation, count: int) -> Iterator[Case]:
    """Yield kill -9 of the workstation before what it sends or writes, from first to last."""
    total = _count_sends(station)
    log = station.folder / "steps.log"
    for number in range(count):
        at = 1 + round(number * (total - 1) / (count - 1))
        trap = {"at": at, "do": "kill", "log": str(log)}
        run_case = partial(station.harmed, partial(station.deploy, "two", trap))
        yield Case("kill -9 of the workstation", f"point {number + 1} of {count}", run_case)


def device_kills(station: Workstation) -> Iterator[Case]:
    """Yield kill -9 of the device program under a deployment that watches."""
    for command, steps in _DEVICE_STEPS.items():
        for at in steps:
            python = _trapped_python(station, command, at)
            run_case = partial(station.harmed, partial(station.deploy, "two", python=python))
            name = f"{command}, step {at}"
            yield Case("kill -9 of the device program, deploying", name, run_case)


def full_disks(station: Workstation, count: int, seed: int) -> Iterator[Case]:
    """Yield disks that are full from a random byte of the deployment on."""
    rng = Random(seed)
    goods = station.board.goods
    total = goods.program.stat().st_size + goods.bundle("two").stat().st_size
    for number in range(count):
        at = rng.randrange(total)
        run_case = partial(_filled, station, at)
        yield Case("disk full while deploying", f"{number}: byte {at}", run_case)


def refusals(station: Workstation) -> Iterator[Case]:
    """Yield boards that cannot be deployed to at all."""

    def locked(place: str) -> Ran:
        with disks.read_only(station.board.root / place):
            return station.deploy("two")

    for place in (".", "releases", "incoming"):
        run_case = partial(station.harmed, partial(locked, place))
        yield Case("read-only folder, deploying", place, run_case)
    for kind, packages in PYTHONS.items():
        python = bare_python(station.folder / f"python-with-{kind}", packages)
        run_case = partial(station.harmed, partial(station.deploy, "two", python=python))
        yield Case("missing runtime, deploying", f"a Python with {kind}", run_case)
    absent = partial(station.deploy, "two", python="/usr/bin/python-that-is-not-there")
    yield Case("missing runtime, deploying", "no Python", partial(station.harmed, absent))
    elsewhere = partial(station.deploy, "two", more=("--target", "aarch64"))
    yield Case("wrong architecture, deploying", "deploy", partial(station.harmed, elsewhere))
    broken = partial(station.deploy, "broken")
    yield Case("contract broken on the board", "deploy", partial(station.harmed, broken))


def collisions(station: Workstation, count: int, seed: int) -> Iterator[Case]:
    """Yield two deployments at once, of the same bundle or of two."""
    rng = Random(seed)
    for number in range(count):
        names = [rng.choice(["one", "two"]), "two"]
        pause = rng.uniform(0, 4)
        run_case = partial(station.harmed, partial(_collide, station, names, pause))
        name = f"{number}: {' and '.join(names)}, {pause:.2f} s"
        yield Case("two deployments at once", name, run_case)


def sleeps(station: Workstation, count: int) -> Iterator[Case]:
    """Yield workstations that fall asleep in a deployment, while another one deploys."""
    total = _count_sends(station)
    for number in range(count):
        at = round(total * (number + 1) / (count + 1))
        run_case = partial(_overtaken, station, at)
        yield Case(
            "workstation asleep, another deploys", f"point {number + 1} of {count}", run_case
        )


def _count_sends(station: Workstation) -> int:
    log = station.folder / "steps.log"
    log.unlink(missing_ok=True)
    station.harmed(lambda: station.deploy("two", {"at": 0, "do": "count", "log": str(log)}))
    return len(log.read_text().splitlines())


def _overtaken(station: Workstation, at: int) -> Found:
    """Let another deployment succeed while one sleeps; what it left must stay."""
    log = station.folder / "sleep.log"
    log.unlink(missing_ok=True)
    slept: list[Ran] = []
    trap = {"at": at, "do": "sleep", "log": str(log)}
    station.board.restore("deployed")
    sleeper = threading.Thread(target=lambda: slept.append(station.deploy("two", trap)))
    sleeper.start()
    while sleeper.is_alive() and not (log.exists() and len(log.read_text().splitlines()) >= at):
        time.sleep(0.2)
    other = station.deploy("one")
    while other.code and sleeper.is_alive():
        other = station.deploy("one")
    expected = station.board.current()
    sleeper.join()
    (ran,) = slept
    runs = station.board.current()
    stale = f"{runs} runs, not the later {expected}" if ran.code == 0 or runs != expected else ""
    found_next = f"the other ended with {other.code}: {other.message}" if other.code else stale
    return Found(
        code=ran.code,
        message=ran.message,
        unclear=""
        if ran.is_clear and "took over" in ran.stderr
        else ran.stderr[-2000:] or "silent",
        stands=station.board.still_runs(),
        next=found_next,
    )


def crowds(station: Workstation, count: int, at_once: int) -> Iterator[Case]:
    """Yield commands that end before their input is written, many at once on a healthy board."""
    name = f"{count} commands, {at_once} at a time on a connection"
    yield Case("commands that end at once", name, partial(_crowd, station, count, at_once))


def _crowd(station: Workstation, count: int, at_once: int) -> Found:
    server = station.server
    host = parse(f"127.0.0.1:{server.port}")
    access = SshOptions(identity=server.identity, known_hosts=server.known_hosts(server.port))
    failed: list[str] = []

    async def one(connection: Connection, free: asyncio.Semaphore) -> None:
        async with free:
            try:
                await connection.run(["true"], stdin="unread")
            except MachineError as error:
                failed.append(str(error))

    async def all_of_them() -> None:
        free = asyncio.Semaphore(at_once)
        async with connect(host, access) as connection:
            await asyncio.gather(*(one(connection, free) for _ in range(count)))

    station.board.restore("deployed")
    asyncio.run(all_of_them())
    return Found(
        code=0,
        message="",
        unclear=f"{len(failed)} failed: {failed[0]}" if failed else "",
        stands=station.board.still_runs(),
    )


def _cut(station: Workstation, at: int, always: bool) -> Found:
    with FaultyNetwork(station.server.port, strike_at=at, always=always) as line:
        return station.harmed(lambda: station.deploy("two", port=line.port))


def _filled(station: Workstation, at: int) -> Found:
    root = station.board.root
    fill = partial(disks.leave, root, 0)
    with FaultyNetwork(station.server.port, strike_at=at, strike=fill) as line:
        return station.harmed(
            lambda: station.deploy("two", port=line.port), heal=lambda: disks.heal(root)
        )


def _trapped_python(station: Workstation, command: str, at: int) -> Path:
    """Write a program that is Python, but for one command, in which it is killed at a step."""
    path = station.folder / "pythons" / f"{command}-{at}"
    path.parent.mkdir(exist_ok=True)
    log = str(station.folder / "device.log")
    trap = {"root": str(station.board.root), "at": at, "do": "kill", "log": log}
    return station.board.fork_server.python(path, [TRAP, json.dumps(trap)], only=command)


def _collide(station: Workstation, names: list[str], pause: float) -> Ran:
    """Deploy twice at once; return the worse result."""
    both: dict[int, Ran] = {}

    def begin(number: int) -> None:
        time.sleep(number * pause)
        both[number] = station.deploy(names[number])

    threads = [threading.Thread(target=begin, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return max(both.values(), key=lambda ran: (not ran.is_clear, ran.code))
