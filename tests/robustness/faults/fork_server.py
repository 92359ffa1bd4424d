"""Runs Python programs, each in a fork of a process that has loaded the packages they need.

    python fork_server.py serve SOCKET numpy onnxruntime &
    python -I -S fork_server.py run SOCKET PROGRAM ARGUMENTS ...

A campaign starts programs some thousands of times, and most of the time of a start goes into
loading packages. Whoever asks sends along where the program shall write. Standard library only.
"""

from __future__ import annotations

import importlib
import json
import os
import runpy
import select
import signal
import socket
import sys
import traceback
from typing import Any

_LONGEST = 1 << 16  # bytes of a request


def run(path: str, words: list[str], streams: tuple[int, int]) -> int:
    """Run a program to its end and return its exit code, -9 if it was killed.

    Args:
        path: of the nursery's socket.
        words: the program and its arguments.
        streams: file descriptors of what it prints, and of what it says.
    """
    with socket.socket(socket.AF_UNIX) as nursery:
        nursery.connect(path)
        socket.send_fds(nursery, [json.dumps(words).encode()], streams)
        answer = nursery.recv(16)
    return int(answer) if answer else -signal.SIGKILL


def serve(path: str, packages: list[str]) -> None:
    """Load packages, then fork for whoever asks."""
    for name in packages:
        importlib.import_module(name)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for them
    with socket.socket(socket.AF_UNIX) as door:
        door.bind(path)
        door.listen(16)
        while sys.stdin not in select.select([door, sys.stdin], [], [])[0]:  # closed: nobody asks
            asking, _ = door.accept()
            if not os.fork():
                door.close()
                _become(asking)
            asking.close()


def _become(asking: socket.socket) -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    request, streams, _, _ = socket.recv_fds(asking, _LONGEST, 2)
    code: Any = 1
    try:
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        for stream, ours in zip(streams, (1, 2), strict=True):
            os.dup2(stream, ours)
            os.close(stream)
        sys.argv = json.loads(request)
        runpy.run_path(sys.argv[0], run_name="__main__")
        code = 0
    except SystemExit as stop:
        code = stop.code or 0
    except BaseException:  # noqa: BLE001 - a crash is something to be seen
        traceback.print_exc()
    try:
        sys.stdout.flush()
        sys.stderr.flush()
        asking.send(str(code).encode())
    finally:
        os._exit(0)


def main() -> None:
    """Serve, or run a program and end as it did."""
    what, path, *words = sys.argv[1:]
    if what == "serve":
        serve(path, words)
    code = run(path, words, (1, 2))
    if code < 0:
        os.kill(os.getpid(), -code)
    sys.exit(code)


if __name__ == "__main__":
    main()
