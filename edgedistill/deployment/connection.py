"""SSH connections to boards, set up as `ssh` does: configuration, agent, known hosts, jumps.

Only keys log in. A password would have to be stored, and a fleet cannot prompt for one.
"""

from __future__ import annotations

import asyncio
import errno
import shlex
import socket
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import asyncssh

from edgedistill.deployment.host_keys import (
    HostKeyRecorder,
    known_files,
    load_known_hosts,
    untrusted,
)
from edgedistill.deployment.hosts import Host, parse
from edgedistill.deployment.identities import login_keys
from edgedistill.deployment.remote_command import CommandResult, RemoteCommand
from edgedistill.errors import LostConnectionError, MachineError, UsageError
from edgedistill.io.terminal import brief_printable

TIMEOUT_S: Final = 15.0
COMMAND_TIMEOUT_S: Final = 120.0
_CLOSE_S = 2.0  # a dead board does not close the connection
_KEEPALIVE_S, _KEEPALIVES = 10, 3  # a dead line is noticed after half a minute
_LOST = (
    asyncssh.DisconnectError,
    ConnectionError,
)
_WAYS: Final = {"ProxyJump", "ProxyCommand"}  # of the SSH configuration, to reach a host
_NETWORK: Final = {
    *(errno.ETIMEDOUT, errno.EHOSTUNREACH, errno.EHOSTDOWN, errno.ENETUNREACH, errno.ENETDOWN),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class SshOptions:
    """SSH options of the command line, beside those of the SSH configuration."""

    identity: Path | None = None  # key file, offered first; the agent may hold its private half
    known_hosts: Path | None = None  # None: as configured, else the user's and the system's
    config: Path | None = None  # None: ~/.ssh/config
    timeout_s: float = TIMEOUT_S  # of connecting, and again of logging in
    on_warning: Callable[[str], None] = lambda _: None  # what was passed over, a sentence each


class Connection:
    """An open connection to one board."""

    def __init__(self, host: Host, ssh: asyncssh.SSHClientConnection) -> None:
        self.host = host
        self.ssh = ssh

    async def run(
        self,
        command: Sequence[str],
        *,
        stdin: str | Iterable[bytes] = "",
        timeout_s: float | None = COMMAND_TIMEOUT_S,
        on_line: Callable[[str], None] | None = None,
    ) -> CommandResult:
        """Run a command on the board and return its result, whatever its exit code.

        Args:
            command: program and arguments, neither split nor expanded by the shell there.
            stdin: whole input of the command; chunks are taken as the board has room for them.
            timeout_s: seconds after which the command is killed; None: never.
            on_line: callback for each line of stderr as it comes.

        Raises:
            LostConnectionError: the connection broke off.
            MachineError: it took too long, or the board starts no command.
        """
        chunks = [stdin.encode()] if isinstance(stdin, str) else stdin
        with translate_ssh_errors(self.host):
            running = await RemoteCommand.start(self.ssh, command, on_line)
            try:
                found = await asyncio.wait_for(self._finish(running, chunks), timeout_s)
            except asyncio.TimeoutError:
                running.kill()
                printed = brief_printable(running.noise)
                raise MachineError(
                    f"{self.host}: {shlex.join(command[:4])} did not end within {timeout_s:g} s. "
                    f"{f'The login shell printed: {printed}. ' if printed else ''}"
                    "Look at what the board is doing, then try again."
                ) from None
            finally:
                running.close()
        if found is None:
            raise _lost(self.host, "a command was cut short")
        return found

    async def start(self, command: Sequence[str]) -> RemoteCommand:
        """Start a command on the board and return it once it runs; errors of SSH are raised.

        Raises:
            MachineError: the login shell there does not run it.
        """
        running = await RemoteCommand.start(self.ssh, command, None)
        try:
            await asyncio.wait_for(self._begin(running), COMMAND_TIMEOUT_S)
        except BaseException:
            running.close()
            raise
        return running

    async def _finish(
        self, running: RemoteCommand, chunks: Iterable[bytes]
    ) -> CommandResult | None:
        await self._begin(running)  # before: what the shell starts might read the input
        feeding = asyncio.ensure_future(running.feed(chunks))
        try:
            found = await running.result()
            if feeding.done():
                feeding.result()
            return found
        finally:
            feeding.cancel()

    async def _begin(self, running: RemoteCommand) -> None:
        if await running.begin():
            return
        if running.shell_code is None:
            raise _lost(self.host, "a command was cut short")
        printed = brief_printable(running.noise) or "nothing"
        raise MachineError(
            f"The login shell of {self.host} does not run commands: it ended with exit code "
            f"{running.shell_code} and printed: {printed}. Mend what it starts there (~/.bashrc, "
            "ForceCommand), or log in as another user."
        )


@asynccontextmanager
async def connect(host: Host, access: SshOptions) -> AsyncIterator[Connection]:
    """Connect to a board, through its jump hosts if the configuration names some.

    Raises:
        LostConnectionError: the connection broke off while logging in.
        MachineError: it cannot be reached, its key is not known, or it refuses the login.
        IntegrityError: its key differs from the known one.
        UsageError: the SSH configuration or the private key cannot be used.
    """
    opened: list[asyncssh.SSHClientConnection] = []
    try:
        for each in [*jump_hosts(host, access), host]:
            opened.append(await _open(each, access, opened[-1] if opened else None))
        yield Connection(host, opened[-1])
    finally:
        for ssh in reversed(opened):
            ssh.close()
        goodbyes = [asyncio.ensure_future(ssh.wait_closed()) for ssh in opened]
        if goodbyes:
            await asyncio.wait(goodbyes, timeout=_CLOSE_S)


@contextmanager
def translate_ssh_errors(host: Host) -> Iterator[None]:
    """Translate errors of SSH on an open connection into `EdgeDistillError`s.

    Raises:
        LostConnectionError: the connection broke off.
        MachineError: the board refused something.
    """
    try:
        yield
    except _LOST as error:
        raise _lost(host, str(error)) from error
    except asyncssh.ChannelOpenError as error:
        if "closed" in error.reason.lower():  # the connection is
            raise _lost(host, error.reason) from error
        raise MachineError(
            f"{host} opens no channel: {error.reason}. Its SSH server may allow too few sessions: "
            "remove MaxSessions from /etc/ssh/sshd_config there (10 is the default, 2 are needed), "
            "or look at its log."
        ) from error
    except OSError as error:
        if error.errno in _NETWORK:
            raise _lost(host, str(error)) from error
        raise


async def _open(
    host: Host, access: SshOptions, tunnel: asyncssh.SSHClientConnection | None
) -> asyncssh.SSHClientConnection:
    options = _options(host, access)
    files = known_files(access.known_hosts, options.known_hosts)
    known = load_known_hosts(files, access.on_warning)
    witness = HostKeyRecorder()
    try:
        async with login_keys(options, access.identity) as keys:
            return await asyncssh.connect(
                **{**_settings(host, access), "client_keys": keys, "agent_path": None},
                known_hosts=known,
                client_factory=lambda: witness,
                tunnel=tunnel,
                proxy_command=None if _is_jump_first(options) else (),
            )
    except asyncssh.HostKeyNotVerifiable as error:
        raise untrusted(host, witness, known, files, options.host_key_alias) from error
    except (asyncssh.ConnectionLost, ConnectionResetError) as error:
        raise _lost(host, str(error)) from error
    except (asyncssh.Error, OSError, asyncio.TimeoutError) as error:
        raise MachineError(_unreachable(host, options.username, error)) from error
    except (ValueError, asyncssh.KeyImportError) as error:
        raise _unusable(host, error) from error


def jump_hosts(host: Host, access: SshOptions, *, behind: Sequence[Host] = ()) -> list[Host]:
    """Return the hosts that a connection goes through, the first first, as `ssh` follows them.

    The first host of a list in `ProxyJump` is reached by its own configuration, which may have
    jump hosts too; the others through the one before, whatever theirs says.

    Args:
        host: host to reach.
        access: SSH options.
        behind: hosts that are reached through `host`.

    Raises:
        UsageError: a host is reached through itself, or `ProxyJump` names none.
    """
    options = _options(host, access)
    jump = options.tunnel
    if not isinstance(jump, str) or not _is_jump_first(options):
        return []
    first, *rest = [parse(each.strip()) for each in jump.split(",")]
    behind = (*behind, host)
    if (first.address, first.port) in {(each.address, each.port) for each in behind}:
        raise UsageError(
            f"The jump hosts of {behind[0]} go in a circle: {first} is reached through itself. "
            f"Write `ProxyJump none` for {first} in the SSH configuration, above the other."
        )
    return [*jump_hosts(first, access, behind=behind), first, *rest]


def _is_jump_first(options: asyncssh.SSHClientConnectionOptions) -> bool:
    """Return whether `ProxyJump` stands before `ProxyCommand`: the first of them counts."""
    ways = [name for name in options.config.get_options(False) if name in _WAYS]
    return ways[:1] == ["ProxyJump"]


def _options(host: Host, access: SshOptions) -> asyncssh.SSHClientConnectionOptions:
    """Return the SSH options of a host under the configuration, without its keys."""
    try:
        return asyncssh.SSHClientConnectionOptions(**_settings(host, access), client_keys=None)
    except (ValueError, OSError, asyncssh.ConfigParseError, asyncssh.KeyImportError) as error:
        raise _unusable(host, error) from error


def _settings(host: Host, access: SshOptions) -> dict[str, Any]:
    settings: dict[str, Any] = {
        "host": host.address,
        "port": host.port,
        "username": host.user,
        "config": [str(access.config)] if access.config is not None else None,
        "connect_timeout": access.timeout_s,
        "login_timeout": access.timeout_s,
        "keepalive_interval": _KEEPALIVE_S,
        "keepalive_count_max": _KEEPALIVES,
        "password_auth": False,
        "kbdint_auth": False,
    }
    return {name: value for name, value in settings.items() if value is not None}


def _unusable(host: Host, error: Exception) -> UsageError:
    return UsageError(
        f"SSH to {host} cannot be set up: {error}. Mend the SSH configuration, or name another "
        "--identity; a key with a passphrase is used through ssh-agent."
    )


def _unreachable(host: Host, user: str, error: Exception) -> str:
    if isinstance(error, asyncssh.PermissionDenied):
        return (
            f"{host} refused the login as {user}. Give the board your public key with ssh-copy-id, "
            "load the private key into ssh-agent, or name it with --identity."
        )
    if isinstance(error, socket.gaierror):
        return (
            f"There is no host {host.address} ({error.strerror}). Check the name and the network."
        )
    if isinstance(error, ConnectionRefusedError):
        return (
            f"{host} refused the connection. Check the port, and that its SSH server runs: "
            "systemctl status ssh"
        )
    if isinstance(error, asyncio.TimeoutError):
        return f"{host} did not answer in time. Check that it is switched on and on this network."
    said = str(error) or type(error).__name__
    return f"SSH to {host} failed: {said}. Try `ssh` to it for more."


def _lost(host: Host, reason: str) -> LostConnectionError:
    return LostConnectionError(
        f"The connection to {host} broke off: {reason}. What is whole there stays; run the command "
        "again to go on."
    )
