"""The part of systemd that the unit of `deploy/` relies on: starts, a watchdog, restarts.

Commands are those of the unit, as `install.sh` writes it. Source: systemd.service(5), sd_notify(3).
"""

from __future__ import annotations

import os
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType

_SCRIPT = Path(__file__).parents[3] / "deploy" / "install.sh"
_ABORT_S = 1.0  # from SIGABRT to SIGKILL; systemd waits for TimeoutStopSec
_RESTART_S = 0.1
_START_S = 60.0
_WAIT_S = 90.0


class Supervisor:
    """A service that is kept running, in a thread.

    Args:
        root: root of the releases.
        folder: folder for the sockets and the log; its path must be short.
        watchdog_s: time without a sign of life after which the service is killed.
    """

    def __init__(self, root: Path, folder: Path, *, watchdog_s: float = 3.0) -> None:
        self.address = folder / "predict.sock"
        self.results: list[str] = []  # of every run, as SERVICE_RESULT has it
        self._log = folder / "service.log"
        self._notify_path = folder / "notify.sock"
        self._watchdog_s = watchdog_s
        self._unit = _unit(root, f"unix:{self.address}")
        self._process: subprocess.Popen[bytes] | None = None
        self._ready = threading.Event()
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Supervisor:
        self._notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._notify_path.unlink(missing_ok=True)
        self._notify.bind(str(self._notify_path))
        self._notify.settimeout(0.05)
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ends.set()
        self._thread.join()
        self._notify.close()

    @property
    def log(self) -> str:
        """What the commands of the unit printed."""
        return self._log.read_text(errors="replace")

    def signal(self, number: int) -> None:
        """Send a signal to the service, once it is ready."""
        self.wait(self._ready.is_set, "it never was ready")
        process = self._process
        assert process is not None
        self._ready.clear()  # the next one comes from the next start
        process.send_signal(number)

    def ask(self, line: bytes, gives_up: Callable[[], bool] = lambda: False) -> bytes:
        """Send a line to the service until it replies, as a client does; b"" if that gives up."""
        until = time.monotonic() + _WAIT_S
        while time.monotonic() < until and not gives_up():
            with suppress(OSError), socket.socket(socket.AF_UNIX) as client:
                client.settimeout(_WAIT_S)
                client.connect(str(self.address))
                client.sendall(line + b"\n")
                if reply := client.makefile("rb").readline():
                    return reply
            time.sleep(0.05)
        return b""

    def wait(self, is_so: Callable[[], bool], what: str) -> None:
        """Wait until something is so."""
        until = time.monotonic() + _WAIT_S
        while not is_so():
            if time.monotonic() > until:
                raise AssertionError(f"{what}:\n{self.log}")
            time.sleep(0.05)

    def _run(self) -> None:
        with self._log.open("ab") as log:
            while not self._ends.is_set():
                self._call("ExecStartPre", log.fileno(), {})
                result, status = self._serve(log.fileno())
                self.results.append(result)
                self._call(
                    "ExecStopPost", log.fileno(), {"SERVICE_RESULT": result, "EXIT_STATUS": status}
                )
                self._ends.wait(_RESTART_S)

    def _call(self, key: str, log: int, environment: dict[str, str]) -> None:
        for words in self._unit.get(key, []):
            subprocess.run(words, env={**os.environ, **environment}, stdout=log, stderr=log)

    def _serve(self, log: int) -> tuple[str, str]:
        """Run the service to its end; return its result and its status."""
        environment = {**os.environ, "NOTIFY_SOCKET": str(self._notify_path)}
        (words,) = self._unit["ExecStart"]
        self._drain()
        self._process = process = subprocess.Popen(words, env=environment, stdout=log, stderr=log)
        expired = self._watch(process)
        self._ready.clear()
        code = process.wait()
        status = signal.Signals(-code).name.removeprefix("SIG") if code < 0 else str(code)
        if expired:
            return expired, status
        if code < 0 and not self._ends.is_set():
            return "signal", status
        return ("exit-code" if code > 0 else "success"), status

    def _watch(self, process: subprocess.Popen[bytes]) -> str:
        """Return "" when the process has ended, else what had to be waited for in vain."""
        until, waits_for = time.monotonic() + _START_S, "timeout"
        while process.poll() is None:
            with suppress(TimeoutError):
                state = self._notify.recv(1024)
                if state == b"READY=1":
                    waits_for = "watchdog"
                    self._ready.set()
                if state in {b"READY=1", b"WATCHDOG=1"} and waits_for == "watchdog":
                    until = time.monotonic() + self._watchdog_s
            if self._ends.is_set():
                process.terminate()
                process.send_signal(signal.SIGCONT)
                with suppress(subprocess.TimeoutExpired):
                    process.wait(_ABORT_S)
                process.kill()
            elif time.monotonic() > until:
                process.send_signal(signal.SIGABRT)
                process.send_signal(signal.SIGCONT)
                with suppress(subprocess.TimeoutExpired):
                    process.wait(_ABORT_S)
                process.kill()
                return waits_for
        return ""

    def _drain(self) -> None:
        with suppress(TimeoutError):
            while True:
                self._notify.recv(1024)


def _unit(root: Path, address: str) -> dict[str, list[list[str]]]:
    """Return the commands of the unit that `install.sh` writes, by their keys."""
    options = ("--root", root, "--python", sys.executable, "--listen", address, "--dry-run")
    ran = subprocess.run(["sh", _SCRIPT, *options], capture_output=True, text=True, check=True)
    commands: dict[str, list[list[str]]] = {}
    for line in ran.stdout.splitlines():
        key, _, value = line.partition("=")
        if key.startswith("Exec"):
            words = shlex.split(value.lstrip("-").replace("$$", "$"))
            commands.setdefault(key, []).append(words)
    return commands
