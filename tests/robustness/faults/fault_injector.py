"""Run a program and, at one step of its work on the disk, kill it or take the disk away.

    python fault_injector.py '{"root": ROOT, "at": 12, "do": "kill", "log": FILE}' PROGRAM ...

Steps are Python's audit events of files under ROOT that are opened for writing, renamed, linked,
removed, flushed, of locks, and of programs that are started; each comes before it happens. At the
n-th `do` is done: "kill" is kill -9, "fill" fills ROOT's disk, "sleep" stops all work for SLEEP_S
seconds, and "count" does nothing. The steps go to the log, one a line. With `sends`, what is sent
over the network is a step too; with `kill_after_s` the program is killed after so many seconds,
whatever it does then.
Standard library only: the board's Python runs it.
"""

from __future__ import annotations

import json
import os
import runpy
import signal
import socket
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

SLEEP_S = 40.0  # twice as long as a board waits
FILLER = ".filler"  # file that fills a disk
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
_CHANGES = {
    *("os.rename", "os.symlink", "os.link", "os.mkdir", "os.rmdir", "os.remove"),
    *("os.truncate", "os.chmod", "fsync"),
}
_ALWAYS = {"fcntl.flock", "subprocess.Popen", "send"}
_FOLDER_AT = {"os.rename": 2, "os.mkdir": 2, "os.rmdir": 1, "os.remove": 1, "os.chmod": 2}


class Trap:
    """Counts steps, and strikes at one."""

    def __init__(self, root: str, at: int, do: str, log: str) -> None:
        self.root, self.at, self.do = os.path.realpath(root), at, do
        self.log = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self.steps = 0

    def on_event(self, event: str, facts: tuple[Any, ...]) -> None:
        """Handle an audit event."""
        if not self._counts(event, facts):
            return
        self.steps += 1
        os.write(self.log, f"{event} {self._name(event, facts)}\n".encode())
        if self.steps == self.at:
            self._strike()

    def _counts(self, event: str, facts: tuple[Any, ...]) -> bool:
        if event in _ALWAYS:
            return True
        writes = event == "open" and isinstance(facts[2], int) and facts[2] & _WRITING
        if not writes and event not in _CHANGES:
            return False
        return self._place(event, facts).startswith(self.root)

    def _place(self, event: str, facts: tuple[Any, ...]) -> str:
        # A link is named second; what it holds, first, may be anything.
        path = facts[1] if event == "os.symlink" else facts[0]
        if isinstance(path, int):
            return str(Path(f"/proc/self/fd/{path}").readlink())
        folder = facts[_FOLDER_AT[event]] if event in _FOLDER_AT else -1
        base = Path(f"/proc/self/fd/{folder}").readlink() if folder >= 0 else Path.cwd()
        return os.path.normpath(base / os.fsdecode(path))

    def _name(self, event: str, facts: tuple[Any, ...]) -> str:
        if event == "subprocess.Popen":
            return str(facts[0])
        if event in _ALWAYS:
            return ""
        return os.path.relpath(self._place(event, facts), self.root)

    def _strike(self) -> None:
        if self.do == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        elif self.do == "fill":
            fill(Path(self.root) / FILLER)
        elif self.do == "sleep":
            time.sleep(SLEEP_S)


def fill(path: Path) -> None:
    """Write to a file until its disk has no byte left."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    try:
        for size in (1 << 16, 1 << 12, 1):
            with suppress(OSError):
                while os.write(handle, bytes(size)):
                    pass
    finally:
        os.close(handle)


def main() -> None:
    """Set the trap, then become the program."""
    facts = json.loads(sys.argv[1])
    moment, sends = facts.pop("kill_after_s", None), facts.pop("sends", False)
    if moment is not None:
        timer = threading.Timer(moment, os.kill, (os.getpid(), signal.SIGKILL))
        timer.daemon = True  # a program that is done before may end
        timer.start()
    trap = Trap(**facts)
    _add_events(trap, sends=sends)
    sys.addaudithook(trap.on_event)
    sys.argv = sys.argv[2:]
    runpy.run_path(sys.argv[0], run_name="__main__")


def _add_events(trap: Trap, *, sends: bool) -> None:
    """Report steps to the trap that are no audit events of Python."""
    true_fsync, true_send = os.fsync, socket.socket.send

    def fsync(fd: Any) -> None:
        trap.on_event("fsync", (fd if isinstance(fd, int) else fd.fileno(),))
        true_fsync(fd)

    def send(end: socket.socket, *arguments: Any) -> int:
        trap.on_event("send", ())
        return true_send(end, *arguments)

    os.fsync = fsync
    if sends:
        socket.socket.send = send  # type: ignore[method-assign, assignment]


if __name__ == "__main__":
    main()
