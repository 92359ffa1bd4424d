"""Faults of a release that was healthy when it was switched to, and the fall-back from it."""

from __future__ import annotations

import json
import signal
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from edgedistill.device.releases.fallback import LIMIT
from edgedistill.device.releases.layout import BUNDLE, PROGRAM, RECORD
from faults import bundles, device, disks, repetition
from faults.board import LocalBoard, Ran
from faults.campaign import Case, Found, found
from faults.device import Trap, Work
from faults.supervisor import Supervisor

SERIES = json.dumps({"series": list(range(bundles.LENGTH))}).encode()
SPIKE = json.dumps({"series": bundles.SPIKE}).encode()
_FILES = {
    "the model": f"{BUNDLE}/**/*.onnx",
    "the golden set": f"{BUNDLE}/golden.npz",
    "the manifest": f"{BUNDLE}/manifest.json",
    "the record": RECORD,
    "the program": PROGRAM,
}
_PLACES = {"at the start": 0.0, "in the middle": 0.5, "near the end": 0.95}
_SIGNALS = {"SIGSTOP": signal.SIGSTOP, "SIGSEGV": signal.SIGSEGV, "SIGKILL": signal.SIGKILL}


def prepare(board: LocalBoard) -> dict[str, Work]:
    """Deploy `one` and `hanging`, save states of failure, and return the commands there."""
    for name in ("one", "hanging"):
        ran, release = board.deploy(name)
        if ran.code:
            raise RuntimeError(f"The deployment fails without any fault: {ran.stderr}")
        board.record_answers(release)
    board.save("hanging")
    for _ in range(LIMIT - 1):
        _record_failure(board, None)
    board.save("failed twice")
    _record_failure(board, None)
    board.save("failed")
    board.restore("hanging")
    flip(board, "the model")
    board.save("damaged")

    def fall_back(trap: Trap) -> Ran:
        return board.releases("fallback", trap=trap)

    return {
        "fallback": Work("failed", fall_back),
        "fallback, damaged": Work("damaged", fall_back, settles="fallback"),
        "record-failure": Work("failed twice", partial(_record_failure, board)),
    }


def commands(board: LocalBoard, works: dict[str, Work]) -> Iterator[Case]:
    """Yield the commands of the unit killed at each step, and on disks that are full."""
    yield from device.kills(board, works)
    yield from device.full_disks(board, works)
    yield from repetition.killed(board, {"fallback": works["fallback"]})
    for name, work in works.items():
        run = partial(device.on_full_disk, board, work)
        yield Case("disk without space", f"{name}, 0 bytes free", run)


def damage(board: LocalBoard) -> Iterator[Case]:
    """Yield a flipped bit in each file of the current release, and of the previous one."""
    for name in _FILES:
        for place, share in _PLACES.items():
            run = partial(_damaged, board, name, share, "current")
            yield Case("bit flipped in a release", f"{name}, {place}", run)
        run = partial(_damaged, board, name, 0.5, "previous")
        yield Case("bit flipped in a release", f"{name} of the previous one, in the middle", run)


def services(board: LocalBoard) -> Iterator[Case]:
    """Yield services that fail until the board leaves their release."""
    for is_full in (False, True):
        where = ", full disk" if is_full else ""
        for name, number in _SIGNALS.items():
            harm = partial(_signal, number)
            run = partial(_served, board, harm, is_full=is_full)
            yield Case("service that fails", f"{name} three times{where}", run)
        run = partial(_served, board, lambda service: service.ask(SPIKE), is_full=is_full)
        yield Case("service that fails", f"a model that hangs{where}", run)
        for name in ("the model", "the program"):
            harm = partial(_flip_and_kill, board, name)
            run = partial(_served, board, harm, is_full=is_full)
            yield Case("service that fails", f"a bit flipped in {name}{where}", run)


def flip(board: LocalBoard, name: str, share: float = 0.5, *, release: str = "current") -> None:
    """Flip a bit of a release's file, at a share of its length."""
    (path,) = (board.root / release).resolve().glob(_FILES[name])
    content = bytearray(path.read_bytes())
    content[int(share * len(content))] ^= 1
    path.write_bytes(content)


def _record_failure(board: LocalBoard, trap: Trap) -> Ran:
    words = ("record-failure", "--result", "watchdog", "--status", "ABRT")
    return board.releases(*words, trap=trap)


def _damaged(board: LocalBoard, name: str, share: float, release: str) -> Found:
    """Flip a bit; then the service starts, for which the board looks at the release."""

    def harm() -> Ran:
        flip(board, name, share, release=release)
        program = board.root / "previous" / PROGRAM
        ran = board.start([program, "releases", "--root", board.root, "fallback"])
        if ran.code and name == "the program":  # that of the previous one, as the unit does
            program = board.root / "current" / PROGRAM
            ran = board.start([program, "releases", "--root", board.root, "fallback"])
        return ran

    board.restore("hanging")
    return found(board, harm)


def _signal(number: int, service: Supervisor) -> None:
    for _ in range(LIMIT):
        service.signal(number)


def _flip_and_kill(board: LocalBoard, name: str, service: Supervisor) -> None:
    service.ask(SERIES)
    flip(board, name)
    service.signal(signal.SIGKILL)


def _served(
    board: LocalBoard, harm: Callable[[Supervisor], object], *, is_full: bool = False
) -> Found:
    """Harm a service until the board leaves its release, and ask what took its place."""

    def harmed() -> Ran:
        with (
            tempfile.TemporaryDirectory(prefix="sd-") as folder,
            Supervisor(board.root, Path(folder)) as service,
        ):
            service.ask(SERIES)
            if is_full:
                disks.leave(board.root, 0)
            harm(service)
            service.wait(lambda: (board.current() or "").startswith("one-"), "it was not left")
            reply = service.ask(SPIKE)
        listed = board.releases("list")
        is_told = b'"class"' in reply and "The board left hanging-" in listed.stderr
        return Ran(0 if is_told else 1, "", listed.stderr + reply.decode())

    board.restore("hanging")
    return found(board, harmed, heal=lambda: disks.heal(board.root))
