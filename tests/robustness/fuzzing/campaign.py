"""A fuzzing campaign: every subject in pieces, each read by workers that may die, counted once.

A piece that is done is a JSON file in the work folder; a piece that is being done is locked. So a
campaign can be stopped and gone on with, and several may work on one folder at the same time.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from tempfile import gettempdir

from edgedistill.io import files
from fuzzing.subject import Subject
from fuzzing.subjects import SUBJECTS
from fuzzing.worker import READ

PIECE = 1_000  # inputs
LIMIT_S = 20.0  # that one input may take, on a busy machine
_LOOK_S = 0.02  # between two looks at a worker
_SHOWN = 20  # findings of a piece that are kept in words
_MEMORY_DISK = Path("/dev/shm")  # where folders are made and removed fast


@dataclass
class Tally:
    """Counts of the outcomes of a subject's inputs."""

    inputs: int = 0
    read: int = 0
    refused: dict[str, int] = field(default_factory=dict)  # by our error
    crashed: int = 0  # the process died
    hung: int = 0
    findings: list[str] = field(default_factory=list)  # the input's index, and what it did

    def add(self, other: Tally) -> None:
        """Add the counts of another piece of the same subject."""
        self.inputs += other.inputs
        self.read += other.read
        self.refused = dict(Counter(self.refused) + Counter(other.refused))
        self.crashed += other.crashed
        self.hung += other.hung
        self.findings += other.findings


@dataclass(frozen=True)
class Piece:
    """Inputs `first` to `stop` of a subject."""

    subject: Subject
    seed: str
    first: int
    stop: int

    @property
    def name(self) -> str:
        """A name for files: which inputs these are."""
        plain = "".join(sign if sign.isalnum() else "-" for sign in self.subject.name)
        return f"{plain}-{self.seed}-{self.first}-{self.stop}"


def run(
    corpus: Path,
    work: Path,
    *,
    seed: str,
    scale: float = 1.0,
    names: list[str] | None = None,
    jobs: int = 1,
    on_piece: Callable[[str], None] = lambda _: None,
) -> dict[str, Tally]:
    """Run a campaign, or what is left of it, and return the tally of every subject.

    Args:
        corpus: folder of `corpus.make`.
        work: folder of the results.
        seed: seed of every input.
        scale: factor of the number of inputs of each subject.
        names: names of the subjects; all by default.
        jobs: number of workers at a time.
        on_piece: callback for every finished piece.
    """
    pieces = list(_pieces(seed, scale, names or list(SUBJECTS)))
    tallies = {piece.subject.name: Tally() for piece in pieces}

    def do(piece: Piece) -> Tally:
        found = _done(piece, corpus, work)
        on_piece(f"{piece.subject.name}, inputs {piece.first} to {piece.stop}: {found.inputs}")
        return found

    with ThreadPoolExecutor(jobs) as pool:
        for piece, tally in zip(pieces, pool.map(do, pieces), strict=True):
            tallies[piece.subject.name].add(tally)
    return tallies


def _pieces(seed: str, scale: float, names: list[str]) -> Iterator[Piece]:
    for name in names:
        subject = SUBJECTS[name]
        inputs = max(1, round(subject.inputs * scale))
        for first in range(0, inputs, PIECE):
            yield Piece(subject, seed, first, min(inputs, first + PIECE))


def _done(piece: Piece, corpus: Path, work: Path) -> Tally:
    """Return the tally of a piece, from its file if that is there."""
    work.mkdir(parents=True, exist_ok=True)
    result = work / f"{piece.name}.json"
    with _locked(work / f"{piece.name}.lock"):
        if not result.exists():
            log = work / f"{piece.name}.log"
            log.unlink(missing_ok=True)
            read_all(piece, corpus, log)
            files.write_json(result, asdict(tally(log)))
            log.unlink()
            log.with_suffix(".stderr").unlink()
    return Tally(**files.read_json(result))


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def read_all(piece: Piece, corpus: Path, log: Path, *, limit_s: float = LIMIT_S) -> None:
    """Read every input of a piece; after one that kills or stops its worker comes the next."""
    first = piece.first
    while first < piece.stop:
        verdict = _worked(piece, first, corpus, log, limit_s)
        if verdict is None:
            return
        first = _last(log) + 1
        with log.open("a") as lines:
            lines.write(f"{first - 1}\t{verdict}\n")


def _worked(piece: Piece, first: int, corpus: Path, log: Path, limit_s: float) -> str | None:
    """Run one worker to its end; return the failure of the last input, or None."""
    command = [sys.executable, "-W", "ignore", "-m", "fuzzing.worker", str(corpus)]
    command += [piece.subject.name, piece.seed, str(first), str(piece.stop), str(log)]
    scratch = _MEMORY_DISK if os.access(_MEMORY_DISK, os.W_OK) else Path(gettempdir())
    places = [str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    errors = log.with_suffix(".stderr")  # a file: a pipe would fill up
    with errors.open("w") as stderr:
        worker = subprocess.Popen(
            command,
            env={**os.environ, "TMPDIR": str(scratch), "PYTHONPATH": os.pathsep.join(places)},
            stdout=subprocess.DEVNULL,
            stderr=stderr,
        )
    size, since = 0, time.monotonic()
    while worker.poll() is None:
        now = log.stat().st_size if log.exists() else 0
        if now > size:
            size, since = now, time.monotonic()
        elif time.monotonic() - since > limit_s:
            worker.kill()
            worker.wait()
            return f"hung\tmore than {limit_s:g} s"
        time.sleep(_LOOK_S)
    if worker.returncode == 0:
        return None
    if worker.returncode > 0:
        words = errors.read_text(errors="replace")[-2_000:]
        raise RuntimeError(f"The worker of {piece.name} failed by itself:\n{words}")
    return f"crashed\tsignal {-worker.returncode}"


def _last(log: Path) -> int:
    """Return the input that was being read when its worker died."""
    last = log.read_bytes().splitlines()[-1].decode(errors="replace")
    index, _, what = last.partition("\t")
    if what != "started":
        raise RuntimeError(f"A worker died between two inputs, after: {last}")
    return int(index)


def tally(log: Path) -> Tally:
    """Count the outcomes in a log."""
    found = Tally()
    for line in log.read_text(errors="replace").splitlines():
        index, _, outcome = line.partition("\t")
        if outcome == "started":
            found.inputs += 1
        elif outcome == READ:
            found.read += 1
        elif outcome.startswith("refused "):
            kind = outcome.removeprefix("refused ")
            found.refused[kind] = found.refused.get(kind, 0) + 1
        else:
            found.crashed += outcome.startswith("crashed")
            found.hung += outcome.startswith("hung")
            if len(found.findings) < _SHOWN:
                found.findings.append(f"{index}: {outcome}")
    return found


def died(finding: str) -> bool:
    """Return whether a finding is that the process died or hung."""
    return finding.partition(": ")[2].startswith(("crashed", "hung"))
