"""Sandbox of the readers: no writes outside its folder, no unpickling, no network.

An audit hook sees every such call that Python makes, before it is made, and stops it. The files
around the folder are compared besides, for what a library does on its own.
"""

# The hook gets every audited call; pathlib would make more of them.
# ruff: noqa: PTH100, PTH115, PTH117, PTH118, PTH119, PTH208

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_CHANGES = {  # audit events that name what is changed, with the place of each path
    "os.mkdir": (0,),
    "os.rmdir": (0,),
    "os.remove": (0,),
    "os.rename": (0, 1),
    "os.link": (0, 1),
    "os.symlink": (1,),
    "os.truncate": (0,),
    "os.chmod": (0,),
    "os.chown": (0,),
    "os.utime": (0,),
    "os.setxattr": (0,),
}
_NEVER = {
    "pickle.find_class",
    "socket.connect",
    "socket.bind",
    "os.system",
    "os.exec",
    "ctypes.dlopen",
}
_PROGRAMS = {"ssh-keygen"}  # what a board may start


class Trespass(BaseException):
    """A forbidden action of a reader; no `except Exception` catches it."""


class Watch:
    """A sandbox: `inside` may be written, `outside` holds what must stay as it is.

    Args:
        sandbox: a new folder.
    """

    def __init__(self, sandbox: Path) -> None:
        self.inside = sandbox / "inside"
        self.scratch = sandbox / "scratch"  # TMPDIR
        self._outside = sandbox / "outside"
        for folder in (self.inside, self.scratch, self._outside / "folder"):
            folder.mkdir(parents=True)
        (self._outside / "kept.txt").write_text("kept")
        self._sandbox = sandbox
        self._allowed = tuple(f"{os.path.realpath(p)}/" for p in (self.inside, self.scratch))
        self._before = self._tree()
        self._active = False
        sys.addaudithook(self._on_event)

    def __enter__(self) -> None:
        self._active = True

    def __exit__(self, *_: object) -> None:
        self._active = False

    def check(self) -> None:
        """Raise Trespass if files around the folder changed, or temporary ones were left."""
        if (now := self._tree()) != self._before:
            self._before = now
            raise Trespass("files outside of the folder changed")
        if left := os.listdir(self.scratch):
            raise Trespass(f"left temporary files behind: {left[0]}")

    def _tree(self) -> list[tuple[str, int, int, int]]:
        found = [(name, 0, 0, 0) for name in sorted(os.listdir(self._sandbox))]
        for folder, folders, names in os.walk(self._outside):
            for name in sorted(folders + names):
                seen = os.lstat(path := os.path.join(folder, name))
                found.append((path, seen.st_mode, seen.st_size, seen.st_mtime_ns))
        return found

    def _on_event(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self._active:
            return
        if event in _NEVER:
            raise Trespass(f"{event} {arguments[:2]!r}")
        if event == "subprocess.Popen":
            self._check_program(arguments)
        elif event == "open":
            path, mode, flags = arguments
            if (mode and set(mode) & set("wax+")) or flags & _WRITES:
                self._check_path(event, path, -1)
        elif event in _CHANGES:
            folders = [a for a in arguments if isinstance(a, int)]
            for place in _CHANGES[event]:
                self._check_path(event, arguments[place], folders[-1] if folders else -1)

    def _check_program(self, arguments: tuple[Any, ...]) -> None:
        program = os.path.basename(os.fsdecode(arguments[0]))
        if program not in _PROGRAMS:
            raise Trespass(f"started {program}")

    def _check_path(self, event: str, path: Any, folder: int) -> None:
        if isinstance(path, int):  # was checked when it was opened
            return
        name = os.fsdecode(path)
        if folder >= 0 and not os.path.isabs(name):
            name = os.path.join(os.readlink(f"/proc/self/fd/{folder}"), name)
        parent, last = os.path.split(os.path.abspath(name))
        real = os.path.join(os.path.realpath(parent), last)
        if real != os.devnull and not f"{real}/".startswith(self._allowed):
            raise Trespass(f"{event} of {name!r}, outside of the folder")
