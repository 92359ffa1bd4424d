"""Predictions over a socket: a line in, a line out, for several clients at a time.

One thread computes, and clients take turns by the line. A client that does not read its replies
delays only itself. Nothing is read ahead of the line that is being answered but one chunk, and
nothing is buffered on the way out, so that a switch of releases can leave every client, whole, to
the next one. asyncio, from the standard library, without its streams, which would hold both.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import json
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from edgedistill.device.predict.inputs import LineSplitter, SeriesLines
from edgedistill.device.predict.output import plan_record, to_line, to_record
from edgedistill.device.predict.predictor import PredictionResult, Predictor
from edgedistill.device.predict.service import TICK_S, Service, notify
from edgedistill.device.predict.sockets import (
    Address,
    OpenClient,
    bound_address,
    hand_over,
    next_program_takes_sockets,
    open_sockets,
)
from edgedistill.errors import DataError, EdgeDistillError, IntegrityError, MachineError

MAX_CLIENTS: Final = 32
_HELD_BYTES = 64 * 1024**2  # of unfinished lines, of all clients together
_IDLE_S = 60.0  # for the rest of a line
_TOKEN_S, _TOKEN_LINE_BYTES = 10.0, 1024  # for the first line of a client that has to have a token
_MIN_TOKEN: Final = 16  # characters; a shorter one could be guessed
_CHUNK_BYTES = 1 << 16
_GRACE_S = 5.0  # for clients to read their last replies when the service stops


def read_token(path: Path) -> str:
    """Return the token of a file that its owner alone may read.

    Raises:
        MachineError: it cannot be read.
        IntegrityError: others may read it, or it is short enough to be guessed.
    """
    try:
        with path.open(encoding="ascii") as file:
            mode = path.stat().st_mode
            token = file.read().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise MachineError(f"The token in {path} cannot be read: {error}.") from error
    if mode & 0o077:
        raise IntegrityError(
            f"{path} may be read by others (mode {mode & 0o777:o}), so its token is no secret. "
            f"Make a new one there: (umask 077; head -c 32 /dev/urandom | base64 >{path})"
        )
    if len(token) < _MIN_TOKEN:
        raise IntegrityError(
            f"The token in {path} has {len(token)} characters; at least {_MIN_TOKEN} are needed. "
            f"Make one: (umask 077; head -c 32 /dev/urandom | base64 >{path})"
        )
    return token


def serve(
    address: Address,
    predictor: Predictor,
    service: Service,
    *,
    log: Callable[[str], None],
    observe: Callable[[PredictionResult], None] = lambda _: None,
    token: str | None = None,
    max_clients: int = MAX_CLIENTS,
) -> None:
    """Serve clients until the service stops; lines sent by then get their replies.

    Args:
        address: address to listen at; port 0 takes a free one.
        predictor: predictor of the series.
        service: service that ends the loop.
        log: callback for the address once clients can connect.
        observe: callback for every result, after the client's reply.
        token: token that each client has to send in its first line; None: none.
        max_clients: number of clients at a time; others are refused.

    Raises:
        MachineError: the address is taken, or cannot be listened at.
    """
    server = _Server(predictor, service, observe, token, max_clients)
    asyncio.run(server.run(address, log))


@dataclass(slots=True, kw_only=True)
class _Client:
    socket: socket.socket
    splitter: LineSplitter
    lines: SeriesLines
    is_authenticated: bool
    token_until: float  # time of the loop
    readable: asyncio.Event = field(default_factory=asyncio.Event)  # or there is no need to read

    def left(self) -> OpenClient:
        return OpenClient(
            socket=self.socket,
            lines=self.lines.count,
            rest=self.splitter.rest,
            is_too_long=self.splitter.is_too_long,
            is_authenticated=self.is_authenticated,
        )


class _Server:
    def __init__(
        self,
        predictor: Predictor,
        service: Service,
        observe: Callable[[PredictionResult], None],
        token: str | None,
        max_clients: int,
    ) -> None:
        self._predictor = predictor
        self._service = service
        self._observe = observe
        self._token = token
        self._max_clients = max_clients
        self._clients: dict[asyncio.Task[None], _Client] = {}
        self._hands_over = False
        self._left: list[OpenClient] = []  # for the next release

    async def run(self, address: Address, log: Callable[[str], None]) -> None:
        listening, earlier = open_sockets(address)
        try:
            await self._run(listening, earlier, lambda: log(_listening(address, listening)))
        finally:
            if self._hands_over:
                hand_over(listening, self._left)
            else:
                listening.close()
                if address.path is not None:
                    address.path.unlink(missing_ok=True)

    async def _run(
        self, listening: socket.socket, earlier: list[OpenClient], on_ready: Callable[[], None]
    ) -> None:
        wake = asyncio.Event()
        loop = asyncio.get_running_loop()
        with self._service.signals(lambda: loop.call_soon_threadsafe(wake.set)):
            self._predictor.warm_up()
            for client in earlier:
                self._start_client(client)
            loop.add_reader(listening, self._accept, listening)
            notify("READY=1")
            on_ready()
            while self._service.tick():
                with contextlib.suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(wake.wait(), TICK_S)
            loop.remove_reader(listening)
            self._hands_over = self._service.renewed and next_program_takes_sockets()
            await self._finish_clients()

    def _accept(self, listening: socket.socket) -> None:
        try:
            connected, _ = listening.accept()
        except OSError:  # it left while it waited
            return
        connected.setblocking(False)
        new = OpenClient(
            socket=connected,
            lines=0,
            rest=b"",
            is_too_long=False,
            is_authenticated=self._token is None,
        )
        if len(self._clients) < self._max_clients:
            self._start_client(new)
            return
        with connected, contextlib.suppress(OSError):
            busy = f"{len(self._clients)} clients are connected. Come back later."
            connected.send(_encoded({"error": busy}))

    def _start_client(self, found: OpenClient) -> None:
        limit = self._predictor.max_line_bytes
        found.socket.setblocking(False)
        client = _Client(
            socket=found.socket,
            splitter=LineSplitter(limit, found.rest, is_too_long=found.is_too_long),
            lines=self._predictor.lines(max_bytes=limit, count=found.lines),
            is_authenticated=found.is_authenticated,
            token_until=asyncio.get_running_loop().time() + _TOKEN_S,
        )
        task = asyncio.ensure_future(self._serve_until_it_leaves(client))
        self._clients[task] = client
        task.add_done_callback(self._clients.pop)

    async def _finish_clients(self) -> None:
        """Send the replies to the lines received so far; then close, or leave to the next."""
        for client in self._clients.values():
            if self._hands_over:
                client.readable.set()
            else:
                with contextlib.suppress(OSError):  # gone already
                    client.socket.shutdown(socket.SHUT_RD)
        if self._clients:
            _, slow = await asyncio.wait(list(self._clients), timeout=_GRACE_S)
            for task in slow:
                task.cancel()
            await asyncio.gather(*slow, return_exceptions=True)

    async def _serve_until_it_leaves(self, client: _Client) -> None:
        is_left = False
        try:
            await self._serve_client(client)
            is_left = self._hands_over
        except OSError:
            pass  # the client left
        except EdgeDistillError as error:  # no memory, half a line: others may fare well
            with contextlib.suppress(OSError):
                await _send(client, {"error": str(error)})
        finally:
            if is_left:
                self._left.append(client.left())
            else:
                client.socket.close()

    async def _serve_client(self, client: _Client) -> None:
        if client.is_authenticated:
            await self._greet(client)
        while chunk := await self._read(client):
            for line in client.splitter.feed(chunk):
                await self._reply(client, line)
            self._check_memory(client)
        if not self._service.stopped:  # half a line of a client that is still there is no line
            for line in client.splitter.finish():
                await self._reply(client, line)

    async def _greet(self, client: _Client) -> None:
        if self._predictor.saliency:
            await _send(client, plan_record(self._predictor))

    async def _read(self, client: _Client) -> bytes:
        """Return what comes next, nothing at the end; within a line it has to come soon."""
        while not self._hands_over:
            with contextlib.suppress(BlockingIOError):
                return client.socket.recv(_CHUNK_BYTES)
            await self._wait(client)
        return b""

    async def _wait(self, client: _Client) -> None:
        loop = asyncio.get_running_loop()
        client.readable.clear()
        loop.add_reader(client.socket, client.readable.set)
        try:
            if not client.is_authenticated:
                await asyncio.wait_for(client.readable.wait(), client.token_until - loop.time())
            elif client.splitter.is_within_line:
                await asyncio.wait_for(client.readable.wait(), _IDLE_S)
            else:
                await client.readable.wait()
        except asyncio.TimeoutError as error:
            if not client.is_authenticated:
                raise _wrong_token() from error
            raise DataError(
                f"The rest of a line did not come within {_IDLE_S:g} s. End each line with a line "
                "feed."
            ) from error
        finally:
            loop.remove_reader(client.socket)

    def _check_memory(self, client: _Client) -> None:
        """Refuse the line of a client that holds more than its share of what all may hold."""
        size = client.splitter.size
        if not client.is_authenticated and size > _TOKEN_LINE_BYTES:
            raise _wrong_token()
        held = sum(other.splitter.size for other in self._clients.values())
        if held > _HELD_BYTES and size > _HELD_BYTES // self._max_clients:
            raise MachineError(
                f"All clients together have {held} bytes of unfinished lines here, at most "
                f"{_HELD_BYTES} are held. Send the line again later."
            )

    async def _reply(self, client: _Client, line: bytes | None) -> None:
        if not client.is_authenticated:
            if self._token is not None and not _has_token(line, self._token):
                raise _wrong_token()
            client.is_authenticated = True
            await self._greet(client)
            return
        item = client.lines.item(line)
        if item is None:
            return
        answer = self._predictor.predict_item(item)
        await _send(client, to_record(answer, self._predictor))
        self._observe(answer)
        await asyncio.sleep(0)  # the next client's turn


def _has_token(line: bytes | None, token: str) -> bool:
    """Compare a client's first line with the token, in a time that does not tell how far."""
    try:
        given = json.loads(line or b"")["token"]
        return hmac.compare_digest(given.encode(), token.encode())
    except (ValueError, RecursionError, TypeError, KeyError, AttributeError):
        return False


def _wrong_token() -> IntegrityError:
    return IntegrityError(
        'The first line has to be {"token": "..."} with the token of this service.'
    )


def _listening(address: Address, listening: socket.socket) -> str:
    return f"Listening at {bound_address(address, listening)}."


async def _send(client: _Client, facts: dict[str, Any]) -> None:
    await asyncio.get_running_loop().sock_sendall(client.socket, _encoded(facts))


def _encoded(facts: dict[str, Any]) -> bytes:
    return to_line(facts).encode() + b"\n"
