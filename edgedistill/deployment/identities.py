"""Keys that log in, chosen as `ssh` does: the agent's for the files that are named, then the rest.

A file may be encrypted, or hold the public half alone, as long as the agent holds the private one.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import asyncssh

from edgedistill.errors import UsageError

_USUAL: Final = ("id_rsa", "id_ecdsa", "id_ecdsa_sk", "id_ed25519", "id_ed25519_sk")
_FROM_ENVIRONMENT: Final = "SSH_AUTH_SOCK"


@dataclass(frozen=True, slots=True)
class _File:
    """A file of a key: what is known of its public half, and its private half where it opens."""

    path: Path
    public: frozenset[bytes]  # the key and its certificate, as the agent names them
    private: Sequence[asyncssh.SSHKeyPair] = field(default=())


@asynccontextmanager
async def login_keys(
    options: asyncssh.SSHClientConnectionOptions, identity: Path | None
) -> AsyncIterator[list[asyncssh.SSHKeyPair] | None]:
    """Yield the keys to log in with, the best first; None if there are none.

    The order is that of `ssh`, with the named file first: the agent's keys that the files name,
    the agent's other keys unless `IdentitiesOnly` is set, then the files that the agent lacks.

    Args:
        options: options of the host under the SSH configuration.
        identity: file of the command line, a private key or the public half of the agent's.

    Raises:
        UsageError: the named file is missing, is no key, or cannot be used without the agent.
    """
    configured = options.config.get("IdentityFile", () if identity else _usual())
    files = [_read(Path(str(name)).expanduser()) for name in _texts(configured)]
    agent = asyncssh.SSHAgentClient(_agent_path(options))
    async with agent:
        held: dict[bytes, asyncssh.SSHKeyPair] = {}
        with suppress(ValueError, OSError):  # no agent, or one that is locked
            held = {pair.public_data: pair for pair in await agent.get_keys()}
        first = [] if identity is None else _named(identity, held)
        listed = [blob for file in files for blob in file.public if blob in held]
        others = [] if options.config.get("IdentitiesOnly") else list(held)
        pairs = [*first, *(held[blob] for blob in (*listed, *others))]
        pairs += [pair for file in files if not file.public & held.keys() for pair in file.private]
        yield _distinct(pairs) or None


def _named(identity: Path, held: dict[bytes, asyncssh.SSHKeyPair]) -> list[asyncssh.SSHKeyPair]:
    """Return the keys of the command line's file, which must be usable."""
    path = identity.expanduser()
    if not path.is_file():
        raise UsageError(f"There is no SSH key at {identity}. Check --identity.")
    file = _read(path)
    if pairs := [held[blob] for blob in file.public if blob in held]:
        return pairs
    if file.private:
        return list(file.private)
    if not file.public:
        raise UsageError(f"{identity} is no SSH key. Name a private key with --identity.")
    if b"PRIVATE KEY" in path.read_bytes():
        raise UsageError(
            f"{identity} has a passphrase, and ssh-agent does not hold its key. Load it there: "
            f"ssh-add {identity}"
        )
    raise UsageError(
        f"{identity} is a public key, and ssh-agent does not hold its private half. Load that "
        f"there with ssh-add, or name its file: --identity {path.with_suffix('')}"
    )


def _read(path: Path) -> _File:
    """Read what a file tells of a key; nothing of one that is missing, or no key."""
    private: Sequence[asyncssh.SSHKeyPair] = ()
    with suppress(OSError, asyncssh.KeyImportError):
        private = asyncssh.load_keypairs(str(path))
    public = {pair.public_data for pair in private}
    for each in (path, path.with_name(f"{path.name}.pub")):
        with suppress(OSError, asyncssh.KeyImportError):
            public.add(asyncssh.read_public_key(each).public_data)
            break
    with suppress(OSError, asyncssh.KeyImportError):
        certificate = asyncssh.read_certificate(path.with_name(f"{path.name}-cert.pub"))
        public.add(certificate.public_data)
    return _File(path, frozenset(public), private)


def _agent_path(options: asyncssh.SSHClientConnectionOptions) -> str:
    """Return the socket of the agent, empty if there is none or the configuration wants none."""
    configured = options.config.get("IdentityAgent", _FROM_ENVIRONMENT)
    if configured is None:
        return ""
    path = str(configured)
    if path == _FROM_ENVIRONMENT or path.startswith("$"):
        return os.environ.get(path.strip("${}"), "")
    return str(Path(path).expanduser())


def _usual() -> list[str]:
    return [f"~/.ssh/{name}" for name in _USUAL]


def _texts(value: object) -> list[str]:
    return [str(each) for each in value] if isinstance(value, (list, tuple)) else []


def _distinct(pairs: Iterable[asyncssh.SSHKeyPair]) -> list[asyncssh.SSHKeyPair]:
    return list({pair.public_data: pair for pair in reversed(list(pairs))}.values())[::-1]
