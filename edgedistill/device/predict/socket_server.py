"""Predictions over a socket: a line in, a line out, for several clients at a time.

One thread computes, and clients take turns by the line. A client that does not read its replies
delays only itself; no buffer grows meanwhile. asyncio, from the standard library.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from edgedistill.device.predict.inputs import LineSplitter, SeriesLines
from edgedistill.device.predict.output import plan_record, to_line, to_record
from edgedistill.device.predict.predictor import PredictionResult, Predictor
from edgedistill.device.predict.service import TICK_S, Service, notify
from edgedistill.errors import DataError, EdgeDistillError, MachineError, UsageError

MAX_CLIENTS: Final = 32
_HELD_BYTES = 64 * 1024**2  # of unfinished lines, of all clients together
_IDLE_S = 60.0  # for the rest of a line
_CHUNK_BYTES = 1 << 16
_GRACE_S = 5.0  # for clients to read their last replies when the service stops
_SOCKET_MODE = 0o660
_HANDED_OVER = "EDGEDISTILL_LISTENING"  # process, descriptor and address of a socket for it


@dataclass(frozen=True, slots=True)
class Address:
    """Address to listen at: a path, or a host and a port."""

    path: Path | None = None
    host: str = ""
    port: int = 0

    def __str__(self) -> str:
        if self.path is not None:
            return f"unix:{self.path}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def to_address(text: str) -> Address:
    """Parse `unix:PATH` or `HOST:PORT`.

    Raises:
        UsageError: it is neither.

    >>> str(to_address("[::1]:5000"))
    '[::1]:5000'
    """
    kind, separator, rest = text.partition(":")
    if kind == "unix" and rest:
        return Address(path=Path(rest))
    host, separator, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if separator and host and port.isascii() and port.isdecimal() and int(port) <= 65535:
        return Address(host=host, port=int(port))
    raise UsageError(
        f"{text!r} is no address. Give unix:PATH, or HOST:PORT such as 127.0.0.1:5000."
    )


def serve(
    address: Address,
    predictor: Predictor,
    service: Service,
    *,
    log: Callable[[str], None],
    observe: Callable[[PredictionResult], None] = lambda _: None,
    max_clients: int = MAX_CLIENTS,
) -> None:
    """Serve clients until the service stops; lines sent by then get their replies.

    Args:
        address: address to listen at; port 0 takes a free one.
        predictor: predictor of the series.
        service: service that ends the loop.
        log: callback for the address once clients can connect.
        observe: callback for every result, after the client's reply.
        max_clients: number of clients at a time; others are refused.

    Raises:
        MachineError: the address is taken, or cannot be listened at.
    """
    server = _Server(predictor, service, observe, max_clients)
    asyncio.run(server.run(address, log))


class _Server:
    def __init__(
        self,
        predictor: Predictor,
        service: Service,
        observe: Callable[[PredictionResult], None],
        max_clients: int,
    ) -> None:
        self._predictor = predictor
        self._service = service
        self._observe = observe
        self._max_clients = max_clients
        self._clients: dict[asyncio.Task[None], asyncio.StreamWriter] = {}
        self._splitters: dict[asyncio.StreamWriter, LineSplitter] = {}

    async def run(self, address: Address, log: Callable[[str], None]) -> None:
        listening = _listen(address)
        try:
            await self._run(address, listening, log)
        finally:
            if self._service.renewed:
                _hand_over(listening, address)
            else:
                listening.close()
                if address.path is not None:
                    address.path.unlink(missing_ok=True)

    async def _run(
        self, address: Address, listening: socket.socket, log: Callable[[str], None]
    ) -> None:
        # A copy: closing the server closes its socket, and a new release may need ours.
        server = await asyncio.start_server(self._accept, sock=listening.dup(), limit=_CHUNK_BYTES)
        wake = asyncio.Event()
        loop = asyncio.get_running_loop()
        with self._service.signals(lambda: loop.call_soon_threadsafe(wake.set)):
            self._predictor.warm_up()
            notify("READY=1")
            log(f"Listening at {_bound(address, listening)}.")
            while self._service.tick():
                with contextlib.suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(wake.wait(), TICK_S)
            server.close()
            await asyncio.sleep(0)  # whoever was accepted just now is a client, too
            await self._finish_clients()

    async def _finish_clients(self) -> None:
        """Send the replies to the lines received so far, then close."""
        for writer in self._clients.values():
            with contextlib.suppress(OSError):  # gone already
                writer.get_extra_info("socket").shutdown(socket.SHUT_RD)
        if self._clients:
            _, slow = await asyncio.wait(self._clients, timeout=_GRACE_S)
            for task in slow:
                task.cancel()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - for the type checker: asyncio runs us as one
        try:
            if len(self._clients) >= self._max_clients:
                busy = f"{len(self._clients)} clients are connected. Come back later."
                await _send(writer, {"error": busy})
                return
            self._clients[task] = writer
            await self._serve_client(reader, writer)
        except OSError:
            pass  # the client left
        except EdgeDistillError as error:  # no memory, half a line: others may fare well
            with contextlib.suppress(OSError):
                await _send(writer, {"error": str(error)})
        finally:
            self._clients.pop(task, None)
            self._splitters.pop(writer, None)
            writer.close()

    async def _serve_client(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        splitter, lines = LineSplitter(), self._predictor.lines()
        self._splitters[writer] = splitter
        if self._predictor.saliency:
            await _send(writer, plan_record(self._predictor))
        while chunk := await _read(reader, splitter):
            for line in splitter.feed(chunk):
                await self._reply(lines, line, writer)
            self._check_memory(splitter)
        if not self._service.stopped:  # half a line of a client that is still there is no line
            for line in splitter.finish():
                await self._reply(lines, line, writer)

    def _check_memory(self, splitter: LineSplitter) -> None:
        """Refuse the line of a client that holds more than its share of what all may hold."""
        held = sum(other.size for other in self._splitters.values())
        if held > _HELD_BYTES and splitter.size > _HELD_BYTES // self._max_clients:
            raise MachineError(
                f"All clients together have {held} bytes of unfinished lines here, at most "
                f"{_HELD_BYTES} are held. Send the line again later."
            )

    async def _reply(
        self, lines: SeriesLines, line: bytes | None, writer: asyncio.StreamWriter
    ) -> None:
        item = lines.item(line)
        if item is None:
            return
        answer = self._predictor.predict_item(item)
        await _send(writer, to_record(answer, self._predictor))
        self._observe(answer)
        await asyncio.sleep(0)  # the next client's turn


async def _read(reader: asyncio.StreamReader, splitter: LineSplitter) -> bytes:
    """Return what comes next; within a line it has to come soon."""
    reading = reader.read(_CHUNK_BYTES)
    if not splitter.is_within_line:
        return await reading
    try:
        return await asyncio.wait_for(reading, _IDLE_S)
    except asyncio.TimeoutError as error:
        raise DataError(
            f"The rest of a line did not come within {_IDLE_S:g} s. End each line with a line feed."
        ) from error


async def _send(writer: asyncio.StreamWriter, facts: dict[str, Any]) -> None:
    writer.write(to_line(facts).encode() + b"\n")
    await writer.drain()


def _listen(address: Address) -> socket.socket:
    try:
        if (inherited := _inherited(address)) is not None:
            return inherited
        return _unix(address.path) if address.path is not None else _tcp(address)
    except (OSError, UnicodeError) as error:  # the latter for a name that no host can have
        reason = getattr(error, "strerror", None) or error
        raise MachineError(
            f"Cannot listen at {address}: {reason}. Choose another address, or "
            "stop what listens there."
        ) from error


def _hand_over(listening: socket.socket, address: Address) -> None:
    """Keep a socket open for the release that this process will execute: clients wait in it."""
    listening.set_inheritable(True)
    os.environ[_HANDED_OVER] = f"{os.getpid()} {listening.detach()} {address}"


def _inherited(address: Address) -> socket.socket | None:
    """Return the socket that the release before this one has handed over, if any."""
    process, _, rest = os.environ.pop(_HANDED_OVER, "").partition(" ")
    descriptor, _, where = rest.partition(" ")
    if process != str(os.getpid()) or where != str(address):
        return None
    listening = socket.socket(fileno=int(descriptor))
    listening.set_inheritable(False)
    return listening


def _unix(path: Path) -> socket.socket:
    """Listen at a path; a stale socket of a killed service is removed."""
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if path.exists() and stat.S_ISSOCK(path.stat().st_mode):
            _refuse_if_alive(path)
            path.unlink()
        before = os.umask(0o777 & ~_SOCKET_MODE)
        try:
            listening.bind(str(path))
        finally:
            os.umask(before)
        listening.listen()
    except BaseException:
        listening.close()
        raise
    return listening


def _refuse_if_alive(path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            return
    raise OSError(None, "another process listens there")


def _tcp(address: Address) -> socket.socket:
    family, kind, protocol, _, place = socket.getaddrinfo(
        address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    listening = socket.socket(family, kind, protocol)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)  # clients inherit it
        listening.bind(place)
        listening.listen()
    except BaseException:
        listening.close()
        raise
    return listening


def _bound(address: Address, listening: socket.socket) -> Address:
    if address.path is not None:
        return address
    host, port, *_ = listening.getsockname()
    return Address(host=host, port=port)
