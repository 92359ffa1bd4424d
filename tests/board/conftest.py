"""The emulated board: an aarch64 Debian that answers to ssh on this machine."""

from __future__ import annotations

import os
import platform
import shlex
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import pytest

REPOSITORY = Path(__file__).parents[2]
SCRIPT = REPOSITORY / "deploy" / "emulated-board" / "board.sh"
FOLDER = Path(os.environ.get("EDGEDISTILL_BOARD", "/var/lib/edgedistill-board"))
PROGRAMS = ("debootstrap", "qemu-aarch64-static", "ssh", "sshd")
sys.path.insert(0, str(REPOSITORY / "tests" / "robustness"))
from faults.board import Goods, make_goods  # noqa: E402 - the bundles that faults are tried with


def board_script(*arguments: str | Path, **options: object) -> subprocess.CompletedProcess[str]:
    """Run board.sh."""
    return subprocess.run(
        [SCRIPT, *arguments],
        **{"capture_output": True, "text": True, **options},
        env={**os.environ, "PYTHON": sys.executable},
    )


@dataclass(frozen=True)
class Board:
    """The running board, and how to reach it."""

    folder: Path

    @property
    def config(self) -> Path:
        """SSH configuration in which it is called `board`."""
        return self.folder / "ssh" / "config"

    def ssh(self, command: str) -> subprocess.CompletedProcess[str]:
        """Run a command there, through ssh."""
        return subprocess.run(
            ["ssh", "-F", self.config, "board", command], capture_output=True, text=True
        )

    def read(self, path: str) -> str:
        """Return the text of a file there."""
        return self.ssh(f"cat {shlex.quote(path)}").stdout


@pytest.fixture(scope="session", name="board_script")
def _board_script() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run board.sh."""
    return board_script


@pytest.fixture(scope="session")
def board_machine(unavailable: Callable[[str], NoReturn]) -> None:
    """This machine can emulate a board."""
    if platform.system() != "Linux" or os.getuid() != 0:
        unavailable("the emulated board needs Linux and root")
    search = os.environ["PATH"] + ":/usr/sbin:/sbin"
    missing = [name for name in PROGRAMS if not shutil.which(name, path=search)]
    if missing:
        unavailable(f"the emulated board needs {', '.join(missing)}; board.sh says how to install")


@pytest.fixture(scope="session")
def board(board_machine: None, unavailable: Callable[[str], NoReturn]) -> Iterator[Board]:
    """A running board; one that somebody started is used and left running."""
    if board_script("status", "--dir", FOLDER).returncode == 0:
        yield Board(FOLDER)
        return
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    started = board_script("start", "--dir", FOLDER, "--port", str(port))
    if started.returncode:
        unavailable(f"the emulated board did not start: {started.stderr.strip()}")
    try:
        yield Board(FOLDER)
    finally:
        board_script("stop", "--dir", FOLDER)


@pytest.fixture(scope="session")
def goods(tmp_path_factory: pytest.TempPathFactory) -> Goods:
    """Signed bundles, one of which breaks its contract where it runs; and an unsigned one."""
    return make_goods(tmp_path_factory.mktemp("goods"))
