"""The real command on damaged bundles and inputs: its exit codes and its output."""

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
_WAYS = {  # arguments of the program, by subject
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
class CommandTally:
    """Runs of the command, their exit codes, and findings."""

    asked: int = 0  # runs; the name in the results
    codes: dict[str, int] = field(default_factory=dict)  # how often each exit code came
    findings: list[str] = field(default_factory=list)


def run_commands(material: Path, work: Path, seed: str, count: int) -> CommandTally:
    """Run the command on the first inputs of some subjects.

    Args:
        material: folder of `corpus.make`.
        work: folder for temporary files.
        seed: seed of the campaign.
        count: number of runs, of all subjects together.
    """
    corpus, found = Corpus(material), CommandTally()
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
    """Return what is wrong with an exit code or a message, if anything."""
    message = done.stderr.decode(errors="replace")
    if "Traceback" in message:
        return f"a traceback: {message.strip().splitlines()[-1]}"
    wanted = _codes(name, data, corpus, folder)
    if done.returncode not in wanted:
        return f"exit code {done.returncode}, not one of {sorted(wanted)}: {message[-200:]}"
    if done.returncode and not message.strip():
        return f"exit code {done.returncode} without a word"
    return None


def _codes(name: str, data: bytes, corpus: Corpus, folder: Path) -> set[int]:
    """Return the exit codes that fit the result of reading the input alone."""
    inside = folder / "again"
    inside.mkdir()
    try:
        SUBJECTS[name].reads(data, inside, corpus)
    except EdgeDistillError as error:
        return {error.exit_code}
    if name == "zip, members by hand":  # it can be unpacked, which does not make it a bundle
        return {6}
    return {0, 3, 4}  # of a bundle that can be read: the model's answers decide
