"""OpenSSH's server on a port of this machine, with keys of its own: what stands in for a board."""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from edgedistill.errors import MachineError

_START_S = 20.0


@dataclass(frozen=True, slots=True)
class Server:
    """A running server."""

    folder: Path
    port: int

    @property
    def identity(self) -> Path:
        """Return the private key that may log in."""
        return self.folder / "user"

    def known_hosts(self, port: int) -> Path:
        """Return a file that vouches for the server when it is reached through another port."""
        path = self.folder / f"known_hosts.{port}"
        path.write_text(f"[127.0.0.1]:{port} {(self.folder / 'host.pub').read_text()}")
        return path


@contextmanager
def running(folder: Path) -> Iterator[Server]:
    """Yield a server for the user who runs this.

    Raises:
        MachineError: there is no sshd, or it does not start.
    """
    program = shutil.which("sshd", path=os.environ["PATH"] + ":/usr/sbin")
    if program is None:
        raise MachineError("sshd is not installed. Install it: apt-get install openssh-server")
    if os.getuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)
    server = _furnished(folder)
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([program, "-D", "-e", "-f", folder / "config"], stderr=log)
    try:
        _wait(server, process)
        yield server
    finally:
        process.terminate()
        process.wait()


def _furnished(folder: Path) -> Server:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name in ("host", "user"):
        key = str(folder / name)
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", key]
        subprocess.run(command, check=True)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    (folder / "config").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {folder.resolve() / 'host'}\nUsePAM no\n"
        f"AuthorizedKeysFile {folder.resolve() / 'user.pub'}\nPidFile none\nStrictModes no\n"
        f"PermitRootLogin prohibit-password\nAllowUsers {getpass.getuser()}\nMaxStartups 100\n"
        "Subsystem sftp internal-sftp\n"
    )
    return Server(folder, port)


def _wait(server: Server, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline and process.poll() is None:
        with suppress(OSError), socket.create_connection(("127.0.0.1", server.port), timeout=1):
            return
        time.sleep(0.02)
    raise MachineError(f"sshd did not start: {(server.folder / 'log').read_text()}")
