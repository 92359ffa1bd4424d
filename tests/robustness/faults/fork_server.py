"""Fork server: runs Python programs, each in a fork of a process with loaded packages.

    python fork_server.py serve SOCKET numpy onnxruntime &
    python -I -S fork_server.py run SOCKET PROGRAM ARGUMENTS ...

A campaign starts programs some thousands of times, and most of the time of a start goes into
loading packages. A request brings the streams of the program's output. Standard library only.
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
from pathlib import Path
from typing import Any

_LONGEST = 1 << 16  # bytes of a request


def run(path: str, words: list[str], streams: tuple[int, int]) -> int:
    """Run a program to its end and return its exit code, -9 if it was killed.

    Args:
        path: path of the server's socket.
        words: program and arguments.
        streams: file descriptors of stdout and stderr.
    """
    with socket.socket(socket.AF_UNIX) as server:
        server.connect(path)
        socket.send_fds(server, [json.dumps(words).encode()], streams)
        code = server.recv(16)
    return int(code) if code else -signal.SIGKILL


def serve(path: str, packages: list[str]) -> None:
    """Load packages, then fork for every request."""
    for name in packages:
        importlib.import_module(name)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # they are not waited for
    with socket.socket(socket.AF_UNIX) as door:
        door.bind(f"{path}.new")
        door.listen(16)
        Path(f"{path}.new").rename(path)  # whoever sees the path can connect
        while (
            sys.stdin not in select.select([door, sys.stdin], [], [])[0]
        ):  # closed: no more requests
            client, _ = door.accept()
            if not os.fork():
                door.close()
                _become(client)
            client.close()


def _become(client: socket.socket) -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    request, streams, _, _ = socket.recv_fds(client, _LONGEST, 2)
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
    except BaseException:  # noqa: BLE001 - a crash is shown
        traceback.print_exc()
    try:
        sys.stdout.flush()
        sys.stderr.flush()
        client.send(str(code).encode())
    finally:
        os._exit(0)


def main() -> None:
    """Serve, or run a program and end as it did."""
    what, path, *words = sys.argv[1:]
    if what == "serve":
        serve(path, words)
        return
    code = run(path, words, (1, 2))
    if code < 0:
        os.kill(os.getpid(), -code)
    sys.exit(code)


if __name__ == "__main__":
    main()
