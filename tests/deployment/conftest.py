"""A board that is this machine behind a real SSH server, and bundles to deploy to it."""

from __future__ import annotations

import asyncio
import gc
import importlib.util
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from edgedistill.bundle import signature
from edgedistill.deployment.connection import SshOptions, connect
from edgedistill.deployment.hosts import Host, parse
from edgedistill.evaluation.contract import Contract
from edgedistill.io import archives


def _device_fixtures():
    """Import the fixtures that make bundles; a conftest.py is no package."""
    path = Path(__file__).parents[1] / "device" / "conftest.py"
    spec = importlib.util.spec_from_file_location("device_fixtures", path)
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)  # dataclasses look
    spec.loader.exec_module(module)
    return module


world = _device_fixtures().world


@dataclass(frozen=True)
class Board:
    """A root of its own on the server, and how it is reached."""

    host: Host
    access: SshOptions
    root: Path
    options: tuple[str, ...]  # of a command

    def run(self, work: Callable) -> object:
        """Run an asynchronous function of a connection."""

        async def connected():
            async with connect(self.host, self.access) as connection:
                return await work(connection)

        return asyncio.run(connected())

    @property
    def current(self) -> str | None:
        """Name of the release that runs."""
        link = self.root / "current"
        return link.resolve(strict=True).name if link.is_symlink() else None


@pytest.fixture
def access(ssh_server) -> SshOptions:
    """The key and the known hosts of the server."""
    return SshOptions(identity=ssh_server.key, known_hosts=ssh_server.known_hosts)


@pytest.fixture
def board(ssh_server, access, tmp_path) -> Board:
    """The server as a board whose Python is the one that runs this."""
    root = tmp_path / "board" / "edgedistill"
    root.parent.mkdir()
    host = parse(ssh_server.address, root=str(root), python=sys.executable)
    options = (*ssh_server.options, "--root", str(root), "--python", sys.executable)
    return Board(host, access, root, options)


@pytest.fixture(scope="session")
def signer(tmp_path_factory) -> Path:
    """A private key; beside it the file of allowed signers that trusts it."""
    key = tmp_path_factory.mktemp("signer") / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", key], check=True)
    public = key.with_suffix(".pub").read_text()
    key.with_name("allowed_signers").write_text(f"me@example.org {public}")
    return key


@pytest.fixture(scope="session")
def bundles(world, signer, tmp_path_factory) -> dict[str, Path]:
    """Signed zips: two that keep their contracts, one that breaks it; and one without signature."""
    folder = tmp_path_factory.mktemp("bundles")
    loose = Contract(max_latency_p95_ms=1e6)
    contracts = {"first": loose, "second": loose, "broken": Contract(max_latency_p95_ms=1e-6)}
    found = {}
    for name, contract in contracts.items():
        root = world.write(folder / name, name=name, contract=contract)
        signature.sign(root, signer)
        found[name] = folder / f"{name}.zip"
        archives.pack(root, found[name])
    found["unsigned"] = world.write(folder / "unsigned.zip", contract=loose)
    return found


class Cutter:
    """A proxy in front of the server; each connection dies after so many bytes to the server."""

    def __init__(self, port: int, budgets: list[int]) -> None:
        self._target, self._budgets = port, budgets
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.connections = 0
        self._threads = [threading.Thread(target=self._serve)]
        self._threads[0].start()

    def close(self) -> None:
        """Take no more connections; all must have ended."""
        self._listener.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(timeout=20)
        self._listener.close()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                budget = self._budgets.pop(0) if self._budgets else None
                self.connections += 1
                self._threads.append(threading.Thread(target=self._pass, args=(client, budget)))
                self._threads[-1].start()

    def _pass(self, client: socket.socket, budget: int | None) -> None:
        with client, socket.create_connection(("127.0.0.1", self._target)) as server:
            back = threading.Thread(target=self._copy, args=(server, client, None))
            back.start()
            self._copy(client, server, budget)
            back.join()

    def _copy(self, source: socket.socket, sink: socket.socket, budget: int | None) -> None:
        with suppress(OSError):
            while data := source.recv(1 << 14):
                sink.sendall(data[:budget])
                if budget is not None and len(data) >= budget:
                    break
                budget = None if budget is None else budget - len(data)
        for end in (source, sink):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def cutter(ssh_server, board, tmp_path) -> Iterator[Callable[[list[int]], tuple[Cutter, Board]]]:
    """Return a proxy and the board behind it; connections die after the budgets, then no more."""
    made = []

    def make(budgets: list[int]) -> tuple[Cutter, Board]:
        cutter = Cutter(ssh_server.port, budgets)
        made.append(cutter)
        known = tmp_path / "known_hosts"
        known.write_text(f"[127.0.0.1]:{cutter.port} {ssh_server.host_key.read_text()}")
        host = replace(board.host, port=cutter.port)
        return cutter, replace(board, host=host, access=replace(board.access, known_hosts=known))

    yield make
    for cutter in made:
        cutter.close()
    # asyncssh leaves failed tasks that nobody awaits. Python logs each when it is collected, and
    # some releases of 3.11 fail if that happens while a source is parsed.
    gc.collect()
