"""Kill a command at each of its steps, one after the other: run by the tests of releases.

`python kills.py PRISTINE WORK STEPS COMMAND…` copies PRISTINE to WORK/<n> for n = 0, 1, …, runs
COMMAND with `{root}` in its place there, and kills the process when it opens, makes, renames, or
removes the n-th thing below that root. It ends when a run outlives its number, or after STEPS.
Prints what the step was, a line each.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
from pathlib import Path

from edgedistill.device.__main__ import main
from edgedistill.device.releases import health, installation, switch  # noqa: F401 # loaded before the fork

EVENTS = {
    "open",
    "os.rename",
    "os.symlink",
    "os.link",
    "os.remove",
    "os.mkdir",
    "os.rmdir",
    "os.chmod",
}


def killed_at(number: int, root: Path, command: list[str]) -> None:
    """Run a command until its n-th step, say what that was, and never return."""
    seen, told = [0], os.dup(1)
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 1)
    os.dup2(nothing, 2)

    def hook(event: str, args: tuple[object, ...]) -> None:
        if event not in EVENTS or not any(str(root) in str(arg) for arg in args[:2]):
            return
        if seen[0] == number:
            os.write(told, f"{event} {args[0]}\n".encode())
            os.kill(os.getpid(), signal.SIGKILL)
        seen[0] += 1

    health.failure = lambda release: "it coughs" if (release / "sick").exists() else None
    sys.addaudithook(hook)
    os._exit(main([word.format(root=root) for word in command]))


def run(pristine: Path, work: Path, steps: int, command: list[str]) -> None:
    """Kill at every step."""
    for number in range(steps):
        root = work / str(number)
        shutil.copytree(pristine, root, symlinks=True)
        process = os.fork()
        if process == 0:
            killed_at(number, root, command)
        status = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
        if status != -signal.SIGKILL:
            print(f"ended {status}", flush=True)
            return


if __name__ == "__main__":
    run(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4:])
