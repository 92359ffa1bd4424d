"""Requests on the socket of a real service, through switches of releases: each must be answered.

Some clients stay connected, others connect for every request. Memory of the service is sampled.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from faults import bundles

_SWITCH_S = _ANSWER_S = 600.0  # on a busy machine a release takes a minute to start
_SAMPLES = 20  # of the memory
_PAUSE_S = 0.02  # between requests of a client while releases are switched


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """Outcome of many requests."""

    answered: int
    failed: int  # refused, disconnected, answered with an error or not at all
    switches: int
    seconds: float
    slowest_s: float  # of one request
    memory_mib: tuple[float, ...]  # resident, at even distances


class SocketService:
    """A service on a Unix socket, and clients of it."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        for name, seed in (("one", 1), ("two", 2)):
            bundles.write(folder / f"{name}.zip", name, seed)
        self._folder, self._path = folder, folder / "socket"
        self._link("one")
        command = [sys.executable, "-m", "edgedistill.device", "predict", folder / "current"]
        command += ["--listen", f"unix:{self._path}"]
        self._process = subprocess.Popen(command, stderr=subprocess.PIPE)
        self._lock = threading.Lock()
        self._answered = self._failed = 0
        self._slowest_s = 0.0

    def __enter__(self) -> SocketService:
        assert self._process.stderr is not None
        self._process.stderr.readline()  # it listens
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._process.kill()
        self._process.communicate()

    def send_many(self, count: int, *, clients: int = 4, batch: int = 250) -> Load:
        """Send requests in batches over connections that stay, and sample the memory."""
        begin = time.monotonic()
        each = count // clients
        threads = [threading.Thread(target=self._send, args=(each, batch)) for _ in range(clients)]
        memory = []
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            if self._answered + self._failed >= (len(memory) + 1) * count / _SAMPLES:
                memory.append(self._memory_mib())
            time.sleep(0.1)
        return self._load(0, time.monotonic() - begin, memory)

    def switch_often(self, switches: int, *, clients: int = 4) -> Load:
        """Switch between two releases again and again, while clients of both kinds ask."""
        begin, memory, over = time.monotonic(), [], threading.Event()
        asking = [self._ask_connected, self._ask_anew] * (clients // 2)
        threads = [threading.Thread(target=ask, args=(over,)) for ask in asking]
        for thread in threads:
            thread.start()
        for number in range(switches):
            before = self._probe()
            self._link(("two", "one")[number % 2])
            until = time.monotonic() + _SWITCH_S
            while self._probe() == before:
                assert time.monotonic() < until, "the service did not switch"
                time.sleep(_PAUSE_S)
            memory.append(self._memory_mib())
        over.set()
        for thread in threads:
            thread.join()
        return self._load(switches, time.monotonic() - begin, memory)

    def _load(self, switches: int, seconds: float, memory: list[float]) -> Load:
        return Load(
            answered=self._answered,
            failed=self._failed,
            switches=switches,
            seconds=seconds,
            slowest_s=self._slowest_s,
            memory_mib=tuple(memory),
        )

    def _link(self, release: str) -> None:
        (self._folder / ".next").symlink_to(f"{release}.zip")
        (self._folder / ".next").replace(self._folder / "current")

    def _connected(self) -> socket.socket:
        client = socket.socket(socket.AF_UNIX)
        client.settimeout(_ANSWER_S)
        client.connect(str(self._path))
        return client

    def _send(self, count: int, batch: int) -> None:
        lines = b"".join(_line(number) for number in range(batch))
        with self._connected() as client, client.makefile("rb") as replies:
            for _ in range(count // batch):
                client.sendall(lines)
                for number in range(batch):
                    self._count(replies.readline(), number)

    def _ask_connected(self, over: threading.Event) -> None:
        """Ask over one connection; another one after a failure."""
        number = 0
        while not over.is_set():
            with (
                self._counting_failures(),
                self._connected() as client,
                client.makefile("rb") as replies,
            ):
                while not over.is_set():
                    self._ask(client, replies, number)
                    number += 1

    def _ask_anew(self, over: threading.Event) -> None:
        """Ask over a connection for each request."""
        number = 0
        while not over.is_set():
            with (
                self._counting_failures(),
                self._connected() as client,
                client.makefile("rb") as replies,
            ):
                self._ask(client, replies, number)
            number += 1

    def _ask(self, client: socket.socket, replies: BinaryIO, number: int) -> None:
        begin = time.monotonic()
        client.sendall(_line(number))
        reply = replies.readline()
        if not reply:
            raise ConnectionResetError
        self._count(reply, number)
        with self._lock:
            self._slowest_s = max(self._slowest_s, time.monotonic() - begin)
        time.sleep(_PAUSE_S)

    def _probe(self) -> bytes:
        with self._connected() as client, client.makefile("rb") as replies:
            client.sendall(_line(0))
            return replies.readline()

    def _count(self, reply: bytes, number: int) -> None:
        if b'"class"' in reply and b'"id": %d,' % number in reply:
            with self._lock:
                self._answered += 1
        else:
            self._fail()

    @contextmanager
    def _counting_failures(self) -> Iterator[None]:
        try:
            yield
        except OSError:
            self._fail()

    def _fail(self) -> None:
        with self._lock:
            self._failed += 1

    def _memory_mib(self) -> float:
        text = Path(f"/proc/{self._process.pid}/status").read_text()
        return int(text.partition("VmRSS:")[2].split()[0]) / 1024


def _line(number: int) -> bytes:
    series = [float((number * step) % 7) for step in range(bundles.LENGTH)]
    return json.dumps({"id": number, "series": series}).encode() + b"\n"
