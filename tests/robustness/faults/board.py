"""A board with a deployment, which can be reset to that state any number of times."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from edgedistill.bundle.signature import sign
from edgedistill.deployment.zipapp import NAME, write_program
from edgedistill.io import archives
from faults import bundles, fork_server

TIMEOUT_S = 120.0
TRAP, FORK_SERVER = (
    Path(__file__).with_name(f"{name}.py") for name in ("fault_injector", "fork_server")
)
CODES = {2, 3, 4, 5, 6}  # that a refusal may have


@dataclass(frozen=True, slots=True)
class Ran:
    """Result of a command."""

    code: int
    stdout: str
    stderr: str

    @property
    def is_clear(self) -> bool:
        """Whether it succeeded, was killed, or failed with a message and no traceback."""
        if "Traceback" in self.stderr + self.stdout:
            return False
        return self.code in {0, -9} or (self.code in CODES and "error: " in self.stderr.lower())

    @property
    def message(self) -> str:
        """Last line on stderr."""
        lines = self.stderr.strip().splitlines()
        return lines[-1] if lines else ""


def run(command: Sequence[str | Path], **options: Any) -> Ran:
    """Run a command to its end; one that does not come to it has code 124."""
    words = [str(part) for part in command]
    try:
        ran = subprocess.run(words, capture_output=True, text=True, timeout=TIMEOUT_S, **options)
    except subprocess.TimeoutExpired:
        return Ran(124, "", f"it did not end in {TIMEOUT_S:g} s")
    return Ran(ran.returncode, ran.stdout, ran.stderr)


class ForkServer:
    """Runs Python programs like `run`, but faster, with loaded packages: `fork_server.py`."""

    def __init__(self, folder: Path, *packages: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self.socket = (
            Path(tempfile.mkdtemp(prefix="fork-server-")) / "socket"
        )  # its path must be short
        command = [sys.executable, FORK_SERVER, "serve", self.socket, *packages]
        self._process = subprocess.Popen(
            [str(word) for word in command], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL
        )
        while not self.socket.exists():
            time.sleep(0.05)

    def run(self, words: Sequence[str | Path]) -> Ran:
        """Run a program to its end."""
        with (
            tempfile.TemporaryFile("w+", dir=self._folder) as out,
            tempfile.TemporaryFile("w+", dir=self._folder) as err,
        ):
            streams = (out.fileno(), err.fileno())
            code = fork_server.run(str(self.socket), [str(word) for word in words], streams)
            out.seek(0)
            err.seek(0)
            return Ran(code, out.read(), err.read())

    def python(self, path: Path, trap: Sequence[str | Path] = (), only: str = "") -> Path:
        """Write a program that runs others as Python does, through the fork server.

        Args:
            path: path of the new program.
            trap: arguments before the program's own.
            only: command that the trap applies to.
        """
        head = [sys.executable, "-I", "-S", FORK_SERVER, "run", self.socket]
        through = shlex.join(str(word) for word in head)
        trapped = shlex.join(str(word) for word in trap)
        path.write_text(
            f'#!/bin/sh\ncase "$1" in\n-*) exec {shlex.quote(sys.executable)} "$@" ;;\nesac\n'
            f'case " $* " in\n*" {only} "*) exec {through} {trapped} "$@" ;;\nesac\n'
            f'exec {through} "$@"\n'
        )
        path.chmod(0o755)
        return path

    def close(self) -> None:
        """End it."""
        self._process.communicate()
        shutil.rmtree(self.socket.parent)


@dataclass(frozen=True)
class Goods:
    """Artifacts to deploy, made once: the program, bundles, and the signing key."""

    folder: Path
    signers: Path = field(init=False)
    program: Path = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "signers", self.folder / "allowed_signers")
        object.__setattr__(self, "program", self.folder / NAME)

    def bundle(self, name: str) -> Path:
        """Return the zip of `one`, `two`, `broken` or `hanging`."""
        return self.folder / f"{name}.zip"

    @property
    def unsigned(self) -> Path:
        """Return the zip of a sound, unsigned bundle."""
        return self.folder / "unsigned.zip"

    @property
    def series(self) -> Path:
        """Return recorded series to predict, as JSON lines."""
        return self.folder / "series.jsonl"


def make_goods(folder: Path) -> Goods:
    """Write the program, two sound bundles, a broken one and one that hangs, signed by one key.

    Artifacts of a stopped campaign are used again.
    """
    goods = Goods(folder)
    if goods.series.exists():
        return goods
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    write_program(goods.program)
    bundles.write(goods.unsigned, "unsigned", 1)
    one = bundles.write(goods.bundle("one"), "one", 1)
    two = bundles.write(goods.bundle("two"), "two", 2)
    broken = bundles.write_broken(goods.bundle("broken"), two, 3)
    hanging = bundles.write(goods.bundle("hanging"), "hanging", 4, hangs=True)
    key = folder / "key"
    run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", key])
    for path in (one, two, broken, hanging):
        _sign(path, key)
    goods.signers.write_text(f"tester {key.with_suffix('.pub').read_text()}")
    drawn = np.random.default_rng(1).normal(size=(4, 1, bundles.LENGTH)).cumsum(axis=2)
    lines = [json.dumps({"id": i, "series": x.round(4).tolist()}) for i, x in enumerate(drawn)]
    goods.series.write_text("\n".join(lines) + "\n")
    return goods


def _sign(path: Path, key: Path) -> None:
    root = path.with_suffix(".signed")
    archives.unpack(path, root)
    sign(root, key)
    archives.pack(root, path)


class LocalBoard:
    """A root folder on this machine, worked on by the device program itself."""

    def __init__(self, root: Path, goods: Goods) -> None:
        self.root, self.goods = root, goods
        self.python: Path | None = None  # None: this one, through the fork server
        self.fork_server = ForkServer(goods.folder / "board", "numpy", "onnxruntime")
        self.states = root.with_name(f"{root.name}.states")
        self.answers: dict[str, str] = {}  # of the releases, by name
        self.environment: dict[str, str] = {}  # of the program's, beside this process's own

    def start(self, words: Sequence[str | Path]) -> Ran:
        """Run a Python program as the board does."""
        if self.python is None and not self.environment:
            return self.fork_server.run(words)
        environment = {**os.environ, **self.environment}
        return run([self.python or sys.executable, *words], env=environment)

    def program(self, *arguments: str | Path, trap: dict[str, Any] | None = None) -> Ran:
        """Run the device program, in a trap if one is given."""
        head: list[str | Path] = []
        if trap is not None:
            head = [TRAP, json.dumps({"root": str(self.root), **trap})]
        return self.start([*head, self.goods.program, *arguments])

    def releases(self, *arguments: str | Path, trap: dict[str, Any] | None = None) -> Ran:
        """Run `releases`."""
        return self.program("releases", "--root", self.root, *arguments, trap=trap)

    def install(self, name: str, trap: dict[str, Any] | None = None) -> Ran:
        """Install a bundle with the program."""
        signed = ("--program", self.goods.program, "--allowed-signers", self.goods.signers)
        return self.releases("install", self.goods.bundle(name), *signed, "--json", trap=trap)

    def validate(self, release: str, trap: dict[str, Any] | None = None) -> Ran:
        """Validate a release."""
        return self.program("validate", self.root / "releases" / release, "--runs", "5", trap=trap)

    def predict(self) -> Ran:
        """Predict with the current release and its own program."""
        current = self.root / "current"
        return self.start([current / NAME, "predict", current, self.goods.series, "--json"])

    def current(self) -> str | None:
        """Return the name of the release that runs."""
        link = self.root / "current"
        return Path(link.readlink()).name if link.is_symlink() else None

    def deploy(self, name: str) -> tuple[Ran, str]:
        """Install, validate and switch; return the last command's outcome and the release."""
        ran = self.install(name)
        if ran.code:
            return ran, ""
        release = json.loads(ran.stdout)["name"]
        for step in (lambda: self.validate(release), lambda: self.releases("switch", release)):
            ran = step()
            if ran.code:
                return ran, release
        return ran, release

    def record_answers(self, release: str) -> None:
        """Record the predictions of the current release, to recognize it later."""
        ran = self.predict()
        if ran.code or self.current() != release:
            raise RuntimeError(f"{release} does not run: {ran.stderr}")
        self.answers[release] = ran.stdout

    def save(self, state: str) -> None:
        """Save the state of the root."""
        shutil.rmtree(self.states / state, ignore_errors=True)  # of a campaign that was stopped
        shutil.copytree(self.root, self.states / state, symlinks=True)

    def restore(self, state: str) -> None:
        """Restore a saved state of the root; the folder itself stays."""
        for path in self.root.iterdir():
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        shutil.copytree(self.states / state, self.root, symlinks=True, dirs_exist_ok=True)

    def still_runs(self) -> str:
        """Return "" if a recorded release runs and predicts as before, else the problem."""
        ran, name = self.predict(), self.current()
        if name not in self.answers:
            return f"current is {name}"
        if ran.code:
            return f"predict ended with {ran.code}: {ran.message}"
        if ran.stdout != self.answers[name]:
            return f"{name} answers otherwise"
        return ""
