"""A long-running process: signals, systemd's watchdog, restart after a switch of releases.

States go to systemd in its own protocol: ready, alive, stopping. Without systemd nothing is sent.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

ALIVE: Final = "WATCHDOG=1"
TICK_S: Final = 0.5  # between two looks at the link, and at most between two signs of life
_JOURNAL = "switching.json"  # beside the link during a switch


def notify(state: str) -> None:
    """Send a state to systemd, such as "READY=1".

    Source: sd_notify(3): a datagram to the socket in NOTIFY_SOCKET; "@" stands for an
    abstract one.
    """
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    if address[0] == "@":
        address = "\0" + address[1:]
    import socket  # here: a single prediction starts faster without it

    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
        sock.settimeout(1.0)
        with suppress(OSError):  # the watchdog notices a missing sign of life
            sock.sendto(state.encode(), address)


class Link:
    """The path that a release was opened by, if that is a link such as `ROOT/current`.

    Args:
        path: path of the command line.
        target: folder that the path led to when it was opened; by default the present one.
    """

    def __init__(self, path: Path, target: Path | None = None) -> None:
        self._path = path
        self._opened = target or path.resolve()

    def has_moved(self) -> bool:
        """Return whether the link has a new target; not during a switch, which may go back."""
        if not self._path.is_symlink() or self._path.with_name(_JOURNAL).exists():
            return False
        now = self._path.resolve()
        return now != self._opened and now.exists()


class Service:
    """A process that works until it is stopped, or until its release is another one.

    Args:
        bundle: path that the release was opened by.
        target: folder that it led to, as for `Link`.
    """

    def __init__(self, bundle: Path, target: Path | None = None) -> None:
        self._link = Link(bundle, target)
        self.stopped = False
        self.renewed = False  # it stopped because its release is another one
        self.check: Callable[[], object] = lambda: None  # raises if the service cannot work

    def tick(self) -> bool:
        """Send a sign of life, check the release, and return whether to go on.

        Raises:
            EdgeDistillError: what `check` raises, in the place of the sign of life.
        """
        self.check()
        notify(ALIVE)
        if not self.stopped and self._link.has_moved():
            self.renewed = True
            self.stop()
        return not self.stopped

    def stop(self) -> None:
        """Request the end of the work."""
        if not self.stopped:
            self.stopped = True
            notify("STOPPING=1" if not self.renewed else "STATUS=Starting the new release")

    @contextmanager
    def signals(self, then: Callable[[], object] | None = None) -> Iterator[None]:
        """Stop on SIGTERM and SIGINT while the block runs; `then` is called as well."""

        def on_signal(_number: int, _frame: object) -> None:
            self.renewed = False  # to stop for good comes before anything else
            self.stop()
            if then is not None:
                then()

        before = {sign: signal.signal(sign, on_signal) for sign in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for sign, handler in before.items():
                signal.signal(sign, handler)


def restart() -> None:
    """Replace this process by the same command: through the link, with the new release's program.

    The process id stays, so systemd sees one service. Does not return.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606 - our own command
