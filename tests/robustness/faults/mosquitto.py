"""A real MQTT broker on loopback that can be stopped, killed and started again."""

from __future__ import annotations

import getpass
import shutil
import socket
import subprocess
import time
from pathlib import Path

TIMEOUT_S = 20.0


def find_mosquitto() -> str | None:
    """Return the path of Mosquitto's program; None where it is not installed."""
    return shutil.which("mosquitto") or shutil.which("/usr/sbin/mosquitto")


class Mosquitto:
    """A broker on a free port.

    Args:
        program: path of Mosquitto.
        folder: folder of its settings.
        lines: its settings; by default everybody may do everything.
        starts: whether to start it at once.
    """

    def __init__(self, program: str, folder: Path, *lines: str, starts: bool = True) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self._command = [program, "-c", str(folder / "mosquitto.conf")]
        settings = lines or ("allow_anonymous true",)
        ours = f"user {getpass.getuser()}"  # as root it would take one that may not read our files
        text = "\n".join((ours, f"listener {self.port} 127.0.0.1", *settings))
        (folder / "mosquitto.conf").write_text(f"{text}\n")
        self._process: subprocess.Popen[bytes] | None = None
        if starts:
            self.start()

    @property
    def address(self) -> str:
        """`HOST:PORT`."""
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it, and wait until it listens."""
        self._process = subprocess.Popen(self._command, stderr=subprocess.DEVNULL)
        until = time.monotonic() + TIMEOUT_S
        while not self._answers():
            assert time.monotonic() < until, "Mosquitto does not listen"
            time.sleep(0.02)

    def stop(self) -> None:
        """End it as systemd does: it saves what it keeps."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait()

    def _answers(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
        except OSError:
            return False
        return True
