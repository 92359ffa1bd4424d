"""The real command, asked about damaged bundles and inputs: its exit codes and what it prints."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from edgedistill.errors import EdgeDistillError
from fuzzing.corpus import Corpus
from fuzzing.subjects import SUBJECTS
from fuzzing.worker import made

_LIMIT_S = 60.0
_WAYS = {  # the subject, and how its input is given to the program
    "bundle's zip, bytes": ("validate", "{input}", "--runs", "20", "--out", "{folder}/report.json"),
    "zip, members by hand": ("benchmark", "{input}", "--runs", "20", "--json"),
    "predict, lines of series": ("predict", "{bundle}", "{input}", "--json"),
    "predict, NPZ": ("predict", "{bundle}", "{input}", "--saliency"),
    "installation of an archive": (
        *("releases", "--root", "{folder}/root", "install", "{input}"),
        *("--allowed-signers", "{signers}", "--json"),
    ),
}
_BUNDLES = ("bundle's zip, bytes", "zip, members by hand", "installation of an archive")


@dataclass
class Asked:
    """How often the command was run, and what was wrong."""

    asked: int = 0
    codes: dict[str, int] = field(default_factory=dict)  # how often each exit code came
    findings: list[str] = field(default_factory=list)


def ask(material: Path, work: Path, seed: str, count: int) -> Asked:
    """Run the command on the first inputs of some subjects.

    Args:
        material: folder that `corpus.make` filled.
        work: folder for what it needs.
        seed: as of the campaign.
        count: of runs, of all subjects together.
    """
    corpus, found = Corpus(material), Asked()
    for number in range(count):
        name = list(_WAYS)[number % len(_WAYS)]
        data = made(SUBJECTS[name], corpus, seed, number // len(_WAYS))
        with TemporaryDirectory(dir=work, prefix="command-") as folder:
            done = _run(name, data, corpus, Path(folder))
            wrong = _wrong(name, data, corpus, Path(folder), done)
        found.asked += 1
        code = str(done.returncode)
        found.codes[code] = found.codes.get(code, 0) + 1
        if wrong:
            found.findings.append(f"command, {name}, {number // len(_WAYS)}: {wrong}")
    return found


def _run(
    name: str, data: bytes, corpus: Corpus, folder: Path
) -> subprocess.CompletedProcess[bytes]:
    path = folder / ("input.zip" if name in _BUNDLES else "input")
    path.write_bytes(data)
    words = {
        "input": path,
        "folder": folder,
        "bundle": corpus.folder / "bundle",
        "signers": corpus.folder / "allowed_signers",
    }
    command = [sys.executable, "-m", "edgedistill.device"]
    command += [word.format(**words) for word in _WAYS[name]]
    return subprocess.run(
        command, capture_output=True, timeout=_LIMIT_S, cwd=folder, env=dict(os.environ)
    )


def _wrong(
    name: str,
    data: bytes,
    corpus: Corpus,
    folder: Path,
    done: subprocess.CompletedProcess[bytes],
) -> str | None:
    """Say what is wrong with an exit code or a message, if anything is."""
    said = done.stderr.decode(errors="replace")
    if "Traceback" in said:
        return f"a traceback: {said.strip().splitlines()[-1]}"
    wanted = _codes(name, data, corpus, folder)
    if done.returncode not in wanted:
        return f"exit code {done.returncode}, not one of {sorted(wanted)}: {said[-200:]}"
    if done.returncode and not said.strip():
        return f"exit code {done.returncode} without a word"
    return None


def _codes(name: str, data: bytes, corpus: Corpus, folder: Path) -> set[int]:
    """Return the exit codes that fit what reading the input alone comes to."""
    inside = folder / "again"
    inside.mkdir()
    try:
        SUBJECTS[name].reads(data, inside, corpus)
    except EdgeDistillError as error:
        return {error.exit_code}
    if name == "zip, members by hand":  # it can be unpacked, which does not make it a bundle
        return {6}
    return {0, 3, 4}  # of a bundle that can be read: the model's answers decide
