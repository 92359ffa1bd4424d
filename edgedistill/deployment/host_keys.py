"""Host keys of boards: only known keys are accepted, without a prompt.

An unknown key is refused with its fingerprint, which the user compares once. A changed key is
refused with a warning.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import asyncssh

from edgedistill.deployment.hosts import Host
from edgedistill.errors import EdgeDistillError, IntegrityError, MachineError, brief

_SSH_PORT: Final = 22
_FIELDS: Final = 3  # names, kind of key, key; a marker such as @revoked may stand before
_SHOWN: Final = 40  # bytes of a line in a message
_USUAL: Final = ("~/.ssh/known_hosts", "/etc/ssh/ssh_known_hosts")


class HostKeyRecorder(asyncssh.SSHClient):
    """Recorder of the key that a server offered; it accepts none."""

    def __init__(self) -> None:
        self.key: asyncssh.SSHKey | None = None
        self.name = ""  # that the configuration gave the server
        self.address = ""
        self.port = _SSH_PORT

    def validate_host_public_key(
        self, host: str, addr: str, port: int, key: asyncssh.SSHKey
    ) -> bool:
        """Record a key that no file lists; SSH calls this."""
        self.key, self.name, self.address, self.port = key, host, addr, port
        return False


def known_files(named: Path | None, configured: object) -> list[str]:
    """Return the files of known host keys that exist.

    Args:
        named: file of the command line, used alone.
        configured: files of the SSH configuration: a list, empty if not set, and None for
            `UserKnownHostsFile none`, with which asyncssh would trust every key.

    Raises:
        MachineError: the named file is missing.
    """
    if named is not None:
        if not named.is_file():
            raise MachineError(f"There is no file of known hosts at {named}. Check --known-hosts.")
        return [str(named)]
    files = configured if isinstance(configured, list) else []
    if configured is not None and not files:
        files = list(_USUAL)
    paths = (Path(file).expanduser() for file in files)
    return [str(path) for path in paths if path.is_file()]


def load_known_hosts(
    files: Sequence[str], on_warning: Callable[[str], None]
) -> asyncssh.SSHKnownHosts:
    """Load files of known host keys line by line, as `ssh` does: an unreadable one counts alone.

    Args:
        files: paths of the files.
        on_warning: callback for each line that is skipped.

    Raises:
        MachineError: a file cannot be read.
    """
    known = asyncssh.SSHKnownHosts()
    for file in files:
        try:
            lines = Path(file).read_bytes().splitlines()
        except OSError as error:
            raise MachineError(
                f"The known hosts in {file} cannot be read: {error.strerror}."
            ) from error
        for number, line in enumerate(lines, start=1):
            if not _load(known, line):
                shown = brief(line[:_SHOWN].decode(errors="replace"))
                on_warning(f"Line {number} of {file} was skipped: {shown} is no known host.")
    return known


def _load(known: asyncssh.SSHKnownHosts, line: bytes) -> bool:
    """Load an entry without its comment, whose bytes may be anything; False if it is none."""
    words = line.split()
    if not words or words[0].startswith(b"#"):
        return True
    count = _FIELDS + words[0].startswith(b"@")
    try:
        known.load(b" ".join(words[:count]).decode("utf-8"))
    except ValueError:
        return False
    return True


def untrusted(
    host: Host,
    recorder: HostKeyRecorder,
    known_hosts: asyncssh.SSHKnownHosts,
    files: Sequence[str],
    alias: str | None,
) -> EdgeDistillError:
    """Return the error for a refused host key, with the next step.

    Args:
        host: board of the connection.
        recorder: recorder of the refused key.
        known_hosts: known host keys.
        files: files that they are from.
        alias: `HostKeyAlias` of the configuration, if any.
    """
    if recorder.key is None:
        return MachineError(
            f"The host key of {host} cannot be verified: it is revoked, or signed by nobody who is "
            f"trusted. Run `{_ssh(host)}` to see what it says."
        )
    shown = f"{_kind(recorder.key)} {recorder.key.get_fingerprint()}"
    port = recorder.port
    listed = _listed_keys(recorder, known_hosts, alias or recorder.name)
    if listed:
        was = ", ".join(f"{_kind(key)} {key.get_fingerprint()}" for key in listed)
        place = recorder.name if port == _SSH_PORT else f"[{recorder.name}]:{port}"
        return IntegrityError(
            f"THE HOST KEY OF {host} HAS CHANGED. It is now {shown}, known was {was}. Either the "
            "board was set up anew, or another machine answers in its place. Nothing was sent. If "
            f"you know why, remove the old key with: ssh-keygen -R '{alias or place}'"
        )
    file = files[0] if files else _USUAL[0]
    return MachineError(
        f"The host key of {host} is not known: {shown}. Compare it with what the board itself "
        "prints for `ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub` (or the file of its kind). "
        "If they are the same, connect once with "
        f"`{_ssh(host)}`, or add it with: ssh-keyscan -p {port} {recorder.name} >> {file}"
    )


def _listed_keys(
    recorder: HostKeyRecorder, known_hosts: asyncssh.SSHKnownHosts, name: str
) -> Sequence[asyncssh.SSHKey]:
    port = None if recorder.port == _SSH_PORT else recorder.port
    found = asyncssh.match_known_hosts(known_hosts, name, recorder.address, port)[0]
    return list(dict.fromkeys(found))  # listed by name and by address, it comes twice


def _kind(key: asyncssh.SSHKey) -> str:
    """Return a key's kind as ssh-keygen writes it.

    >>> _kind(asyncssh.generate_private_key("ssh-ed25519"))
    'ED25519'
    """
    return key.get_algorithm().removeprefix("ssh-").partition("-")[0].upper()


def _ssh(host: Host) -> str:
    user = f"{host.user}@" if host.user else ""
    port = f"-p {host.port} " if host.port else ""
    return f"ssh {port}{user}{host.address}"
