"""A command on a board, apart from what the login shell there prints around it.

SSH runs every command through the user's login shell. What that starts (`~/.bashrc`, `motd`) may
print before and after, and may leave something behind that keeps the streams open. So our command
runs in a frame: a random mark on both streams, the command, the mark again with the exit code.
"""

from __future__ import annotations

import asyncio
import secrets
import shlex
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

import asyncssh

# The mark is in halves there: a shell that prints its commands does not print the mark. No
# backslash and no line feed, which shells other than sh read otherwise.
_FRAME: Final = (
    'm=$1$2; shift 2; echo "$m"; echo "$m" >&2; "$@"; code=$?; '
    'echo "$m $code"; echo "$m" >&2; exit $code'
)
_LINGER_S: Final = 1.0  # for the login shell to end after the command
_WAITS_S: Final = (0.05, 0.2, 0.5)  # for a session that has ended to be gone
_CHUNK_BYTES: Final = 1 << 16
_NOISE_BYTES: Final = 4096  # that are kept of what the login shell prints


@dataclass(frozen=True, slots=True)
class CommandResult:
    """Result of a command on the board."""

    code: int  # exit code; 128 and the signal's number if a signal ended it
    stdout: str
    stderr: str


class RemoteCommand:
    """A command that runs on a board.

    Args:
        process: process of the framed command.
        mark: mark of its frame.
        on_line: callback for each line of the command's stderr as it comes.
    """

    def __init__(
        self,
        process: asyncssh.SSHClientProcess[bytes],
        mark: bytes,
        on_line: Callable[[str], None] | None,
    ) -> None:
        self._process = process
        self._stdout = _FramedStream(process.stdout, mark)
        self._stderr = _FramedStream(process.stderr, mark)
        self._error_lines: list[str] = []
        self._reading = asyncio.ensure_future(self._read_errors(on_line))

    @classmethod
    async def start(
        cls,
        ssh: asyncssh.SSHClientConnection,
        command: Sequence[str],
        on_line: Callable[[str], None] | None,
    ) -> RemoteCommand:
        """Start a command; errors of SSH are raised."""
        halves = secrets.token_hex(8), secrets.token_hex(8)
        framed = shlex.join(["sh", "-c", _FRAME, "sh", *halves, *command])
        process = await _open(ssh, framed)
        return cls(process, "".join(halves).encode(), on_line)

    async def begin(self) -> bool:
        """Wait until the login shell runs the command; False: it ended without."""
        if await self._stdout.skip_to_begin():
            return True
        await self._reading
        await self._process.wait_closed()
        return False

    @property
    def noise(self) -> str:
        """What the login shell printed before the command, at most the last of it."""
        return (self._stdout.noise + self._stderr.noise).decode(errors="replace")

    @property
    def shell_code(self) -> int | None:
        """Exit code of the login shell; None: the connection ended before it did."""
        code = self._process.returncode
        return 128 - code if code is not None and code < 0 else code

    def write(self, data: bytes) -> None:
        """Write to the command's input."""
        self._process.stdin.write(data)

    async def feed(self, chunks: Iterable[bytes]) -> None:
        """Write the whole input, a chunk when the board has room for it, and end it."""
        with suppress(BrokenPipeError):  # it has ended already: its exit code tells whether well
            for chunk in chunks:
                self._process.stdin.write(chunk)
                await self._process.stdin.drain()
            self._process.stdin.write_eof()

    async def readline(self) -> bytes:
        """Return the next line of the command's output; nothing at its end."""
        return await self._stdout.readline()

    async def result(self) -> CommandResult | None:
        """Read to the end and return the result; None: the connection ended before the command."""
        lines = []
        while line := await self.readline():
            lines.append(line)
        code = self._stdout.code
        linger = None if code is None else _LINGER_S
        await asyncio.wait([self._reading], timeout=linger)
        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._process.wait_closed(), linger)
        code = self.shell_code if code is None else code
        if code is None:
            return None
        stdout = b"".join(lines).decode(errors="replace")
        return CommandResult(code, stdout, "".join(self._error_lines))

    async def wait_closed(self) -> None:
        """End the input and wait for the end of the command."""
        await self.feed(())
        await self._process.wait_closed()

    def kill(self) -> None:
        """Kill it; not every server forwards that, so do not wait for the end."""
        self._process.kill()

    def close(self) -> None:
        """Close the streams, whatever still holds them there."""
        self._reading.cancel()
        self._process.close()

    async def _read_errors(self, on_line: Callable[[str], None] | None) -> None:
        await self._stderr.skip_to_begin()
        while line := await self._stderr.readline():
            self._error_lines.append(line.decode(errors="replace"))
            if on_line is not None:
                on_line(self._error_lines[-1].rstrip("\n"))


async def _open(
    ssh: asyncssh.SSHClientConnection, command: str
) -> asyncssh.SSHClientProcess[bytes]:
    """Start a command; where few sessions are allowed, the last one takes a moment to be gone."""
    for wait_s in _WAITS_S:
        with suppress(asyncssh.ChannelOpenError):
            return await ssh.create_process(command, encoding=None)
        await asyncio.sleep(wait_s)
    return await ssh.create_process(command, encoding=None)


class _FramedStream:
    """What stands between the marks of a stream."""

    def __init__(self, stream: asyncssh.SSHReader[bytes], mark: bytes) -> None:
        self._stream = stream
        self._mark = mark
        self._buffer = b""
        self._skipped = b""
        self._begun = self._ended = False
        self.code: int | None = None  # behind the last mark

    @property
    def noise(self) -> bytes:
        """The last of what came before the first mark."""
        return (self._skipped if self._begun else self._skipped + self._buffer)[-_NOISE_BYTES:]

    async def skip_to_begin(self) -> bool:
        """Skip to the first mark, and return whether there is one."""
        begin = self._mark + b"\n"
        while begin not in self._buffer:
            kept = max(0, len(self._buffer) - len(begin))
            self._skipped = (self._skipped + self._buffer[:kept])[-_NOISE_BYTES:]
            self._buffer = self._buffer[kept:]
            if not await self._fill():
                self._ended = True
                return False
        before, _, self._buffer = self._buffer.partition(begin)
        self._skipped, self._begun = self._skipped + before, True
        return True

    async def readline(self) -> bytes:
        """Return the next line, the last one perhaps without its end; nothing at the end."""
        while not self._ended and b"\n" not in self._buffer:
            self._ended = not await self._fill()
        line, end, self._buffer = self._buffer.partition(b"\n")
        line, mark, code = line.partition(self._mark)
        if mark:
            self._ended, self._buffer = True, b""
            self.code = int(code) if code.strip().isdigit() else None
            return line
        return line + end

    async def _fill(self) -> bool:
        chunk = await self._stream.read(_CHUNK_BYTES)
        self._buffer += chunk
        return bool(chunk)
