"""A network between workstation and board that breaks on demand."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType

_CHUNK = 1 << 12
_RESET = struct.pack("ii", 1, 0)  # close with a reset, as a dead line does


class FaultyNetwork:
    """Passes connections on to a port of this machine, and counts what is sent one way.

    Args:
        port: port of the SSH server.
        strike_at: number of bytes after which `strike` is called, once.
        strike: function to call; by default the connection is cut.
        always: strike again at as many bytes of every later connection.
        answers: count what the board sends, not what the workstation does.
    """

    def __init__(
        self,
        port: int,
        *,
        strike_at: int | None = None,
        strike: Callable[[], None] | None = None,
        always: bool = False,
        answers: bool = False,
    ) -> None:
        self._target, self._at, self._strike, self._always = port, strike_at, strike, always
        self._answers = answers
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._server.getsockname()[1]
        self.passed = 0  # bytes that were counted, of all connections
        self.struck = 0
        self._open: list[socket.socket] = []

    def __enter__(self) -> FaultyNetwork:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.close()
        self._cut(self._open)

    def _accept(self) -> None:
        with suppress(OSError):  # closed
            while True:
                near, _ = self._server.accept()
                far = socket.create_connection(("127.0.0.1", self._target))
                self._open += [near, far]
                for ends in ((near, far, not self._answers), (far, near, self._answers)):
                    threading.Thread(target=self._pump, args=ends, daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, counted: bool) -> None:
        passed = 0
        with suppress(OSError):
            while data := source.recv(_CHUNK):
                if counted and self._due(passed + len(data)):
                    head = max(0, (self._at or 0) - passed)
                    sink.sendall(data[:head])
                    self.struck += 1
                    if self._strike is None:
                        self._cut([source, sink])
                        return
                    self._strike()
                    sink.sendall(data[head:])
                else:
                    sink.sendall(data)
                passed += len(data)
                self.passed += len(data) if counted else 0
        with suppress(OSError):
            sink.shutdown(socket.SHUT_WR)

    def _due(self, passed: int) -> bool:
        return self._at is not None and passed > self._at and (self._always or not self.struck)

    def _cut(self, ends: list[socket.socket]) -> None:
        for end in ends:
            with suppress(OSError):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                end.shutdown(socket.SHUT_RDWR)
            end.close()
