"""Worker: reads inputs in a process of its own, under watch, and logs a line about each.

    python -m fuzzing.worker CORPUS SUBJECT SEED FIRST STOP LOG

The process dies with what it reads where a library crashes; `campaign` sees that and goes on.
"""

from __future__ import annotations

import os
import random
import resource
import shutil
import sys
import tempfile
import traceback
from pathlib import Path

from edgedistill.errors import EdgeDistillError
from fuzzing.corpus import Corpus
from fuzzing.subject import Subject
from fuzzing.subjects import SUBJECTS
from fuzzing.watch import Trespass, Watch

MEMORY_BYTES = 512 * 1024**2  # that reading may take beyond what the process has at the start
READ = "read"


def main(arguments: list[str]) -> None:
    """Read inputs FIRST to STOP of a subject."""
    folder, name, seed, first, stop, log = arguments
    subject, corpus = SUBJECTS[name], Corpus(Path(folder))
    with tempfile.TemporaryDirectory(prefix="fuzz-") as place, Path(log).open("ab", 0) as lines:
        sandbox = Path(place)
        watch = Watch(sandbox)
        tempfile.tempdir = str(watch.scratch)
        os.chdir(watch.inside)
        subject.reads(subject.sound(corpus), _fresh(watch.inside), corpus)  # loads what it needs
        limit_memory(MEMORY_BYTES)
        for index in range(int(first), int(stop)):
            lines.write(f"{index}\tstarted\n".encode())
            outcome = judge(subject, corpus, watch, seed, index)
            lines.write(f"{index}\t{outcome}\n".encode("utf-8", "replace"))
        tempfile.tempdir = None


def made(subject: Subject, corpus: Corpus, seed: str, index: int) -> bytes:
    """Return input `index` of a subject: the same in every process."""
    return subject.makes(random.Random(f"{seed}/{subject.name}/{index}"), corpus)


def judge(subject: Subject, corpus: Corpus, watch: Watch, seed: str, index: int) -> str:
    """Read one input and return the outcome, as one line.

    "read", "refused" and the kind of our error, or a finding: "escaped", "trespass", "memory",
    "silent" (an error without a message).
    """
    data, folder = made(subject, corpus, seed, index), _fresh(watch.inside)
    try:
        with watch:
            subject.reads(data, folder, corpus)
        outcome = READ
    except EdgeDistillError as error:
        outcome = _refusal(error)
    except Trespass as error:
        outcome = f"trespass\t{error}"
    except Exception as error:  # noqa: BLE001 - whatever comes out is what fuzzing looks for
        kind = "memory" if _ran_out(error) else "escaped"
        outcome = f"{kind}\t{type(error).__name__} {_place(error)}: {error}"
    try:
        watch.check()
    except Trespass as error:
        outcome = f"trespass\t{error}"
        shutil.rmtree(watch.scratch, ignore_errors=True)
        watch.scratch.mkdir()
    return outcome.replace("\n", " ")[:400]


def limit_memory(room: int) -> None:
    """Limit this process to `room` bytes more than it has."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + room
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def _refusal(error: EdgeDistillError) -> str:
    if _ran_out(error):
        return f"memory\t{type(error).__name__} {_place(error)}: {error}"
    if not str(error).strip():
        return f"silent\t{type(error).__name__} {_place(error)}"
    return f"refused {type(error).__name__}"


def _ran_out(error: BaseException | None) -> bool:
    while error is not None and not isinstance(error, MemoryError):
        error = error.__cause__ or error.__context__
    return error is not None


def _place(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    ours = [f for f in frames if "edgedistill" in f.filename] or frames
    return f"{Path(ours[-1].filename).name}:{ours[-1].lineno}"


def _fresh(folder: Path) -> Path:
    for entry in os.scandir(folder):
        if entry.is_dir(follow_symlinks=False):
            shutil.rmtree(entry.path)
        else:
            Path(entry.path).unlink()
    return folder


if __name__ == "__main__":
    main(sys.argv[1:])
