"""A board as a deployment meets it: facts probed with `sh` alone, and calls of the device program.

The probe comes before anything is written there. The program prints JSON, and its errors become
ours.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from edgedistill.deployment.connection import COMMAND_TIMEOUT_S, Connection
from edgedistill.deployment.hosts import Host
from edgedistill.deployment.payload import DeploymentPayload, parse_free_bytes
from edgedistill.deployment.remote_command import CommandResult
from edgedistill.device.releases.layout import PROGRAM
from edgedistill.errors import (
    ContractError,
    DataError,
    EdgeDistillError,
    IntegrityError,
    MachineError,
    UsageError,
)

_OLDEST_PYTHON: Final = (3, 10)
# Paths on the board are its own: `~` is resolved there, and a relative path starts at home.
_PROBE: Final = r"""
resolved() {
  case "$1" in
    "~") printf %s "$HOME" ;;
    "~/"*) printf %s "$HOME/${1#\~/}" ;;
    /*) printf %s "$1" ;;
    */*) printf %s "$HOME/$1" ;;
    *) printf %s "$2$1" ;;
  esac
}
root=$(resolved "$1" "$HOME/")
python=$2
if [ -z "$python" ]; then  # the interpreter that validated what runs
  python=$(readlink -- "$root/current/python")
  [ -x "$python" ] || python=python3
fi
python=$(resolved "$python" "")
place=$root
while [ ! -e "$place" ]; do place=$(dirname -- "$place"); done
echo "system=$(uname -s)"
echo "machine=$(uname -m)"
echo "root=$root"
echo "python=$python"
if [ -d "$place" ] && [ -w "$place" ]; then echo "writable=yes"; fi
echo "disk=$(df -Pk -- "$place" | tail -n 1)"
"$python" -c 'import sys; print("version=%d.%d.%d" % sys.version_info[:3])' 2>&1
"""
# What `prune --keep 1` would free: uploads, and releases that are neither current nor previous.
_FREEABLE: Final = r"""
cd -- "$1" || exit 0
stays=" $(readlink current) $(readlink previous) "
if [ -d incoming ]; then echo "uploads $(du -sk incoming | cut -f 1)"; fi
for release in releases/*/; do
  release=${release%/}
  case "$stays" in *" $release "*) ;; *) [ ! -d "$release" ] || du -sk -- "$release" ;; esac
done
"""
_MARK: Final = "error: "  # begins the program's own messages on stderr
_SHOWN_LINES: Final = 5
_ERRORS: Final = {
    kind.exit_code: kind
    for kind in (UsageError, DataError, ContractError, MachineError, IntegrityError)
}
_SIGNALS: Final = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class BoardFacts:
    """Facts of a board, from the probe."""

    machine: str  # output of `uname -m`
    root: str  # absolute
    python: str  # absolute, or a name to look up there
    version: str  # of Python
    writable: bool  # whether the root is, or can be made
    free_bytes: int  # there


@dataclass(frozen=True, slots=True)
class Program:
    """The device program on a board."""

    connection: Connection
    python: str
    path: str

    async def call(
        self,
        *arguments: str,
        timeout_s: float = COMMAND_TIMEOUT_S,
        on_line: Callable[[str], None] | None = None,
        also: Sequence[int] = (),
    ) -> dict[str, Any]:
        """Run a command there with --json and return its JSON.

        Args:
            arguments: command and options.
            timeout_s: seconds after which the command is killed.
            on_line: callback for each line of stderr as it comes.
            also: exit codes beside 0 with which the program prints JSON too.

        Raises:
            LostConnectionError: the connection broke off.
            EdgeDistillError: what the program raised there, as the same kind of error.
        """
        command = [self.python, self.path, *arguments, "--json"]
        result = await self.connection.run(command, timeout_s=timeout_s, on_line=on_line)
        found = _parsed_json(result.stdout)
        if found is not None and result.code in (0, *also):
            return found
        raise self._error(arguments[0], result)

    def _error(self, command: str, result: CommandResult) -> EdgeDistillError:
        host = self.connection.host
        if result.code in _ERRORS:
            return _ERRORS[result.code](f"{host}: {_message(result.stderr)}")
        reason = _message(result.stderr) or "it printed nothing"
        if result.code > _SIGNALS:
            reason = (
                f"signal {result.code - _SIGNALS} ended it; after signal 9 look with `dmesg` there "
                f"whether the memory ran out. {reason}"
            )
        return MachineError(
            f"{host}: `{command}` ended with exit code {result.code}: {reason.rstrip('.')}. Run "
            "the command again; what was whole there stays."
        )


async def probe(connection: Connection) -> BoardFacts:
    """Probe a board.

    Raises:
        LostConnectionError: the connection broke off.
        MachineError: it has no usable Python, or is no Linux.
    """
    host = connection.host
    done = await connection.run(["sh", "-s", "--", host.root, host.python or ""], stdin=_PROBE)
    found = dict(line.partition("=")[::2] for line in done.stdout.splitlines() if "=" in line)
    if found.get("system") != "Linux":
        raise MachineError(
            f"{host} is no Linux: it says {found.get('system') or done.stderr!r}. A board needs "
            "Linux and a POSIX shell."
        )
    _check_python(host, found, done.stdout)
    return BoardFacts(
        machine=found["machine"],
        root=found["root"],
        python=found["python"],
        version=found["version"],
        writable="writable" in found,
        free_bytes=parse_free_bytes(found["disk"]) or 0,
    )


async def check_disk(connection: Connection, facts: BoardFacts, payload: DeploymentPayload) -> None:
    """Refuse a board whose disk is too full, before it gets fuller, or may not be written.

    Raises:
        LostConnectionError: the connection broke off.
        MachineError: it is one of the two.
    """
    host = connection.host
    if not facts.writable:
        raise MachineError(
            f"{facts.root} cannot be written on {host}. Choose another --root, or have it made: "
            f"sudo mkdir -p {facts.root} && sudo chown $USER {facts.root}"
        )
    if facts.free_bytes < payload.needed_bytes:
        raise MachineError(
            f"{host} has {_mib(facts.free_bytes)} MiB free at {facts.root}; {payload.name} "
            f"needs {_mib(payload.needed_bytes)} MiB. {await _freeable(connection, facts)}"
        )


async def _freeable(connection: Connection, facts: BoardFacts) -> str:
    """Return what on a board can go, and the command that removes it."""
    done = await connection.run(["sh", "-s", "--", facts.root], stdin=_FREEABLE)
    uploads, releases = 0, {}
    for line in done.stdout.splitlines():
        first, _, second = line.partition("\t" if "\t" in line else " ")
        if first == "uploads":
            uploads = int(second) << 10
        else:
            releases[second.rpartition("/")[2]] = int(first) << 10
    parts = [f"{_mib(uploads)} MiB of uploads"] if uploads else []
    if releases:
        named = f"{len(releases)} old releases ({', '.join(releases)})"
        parts.append(f"{_mib(sum(releases.values()))} MiB in {named}")
    if not parts:
        return "Nothing of edgedistill can go there: free space elsewhere on that disk."
    command = [facts.python, f"{facts.root}/current/{PROGRAM}", "releases", "--root", facts.root]
    return f"{' and '.join(parts)} can go. Run there: {shlex.join(command)} prune --keep 1"


def _check_python(host: Host, reported: dict[str, str], stderr: str) -> None:
    version = reported.get("version", "")
    python = host.python or reported.get("python")
    if not version:
        last = stderr.strip().splitlines()[-1]
        raise MachineError(
            f"{host} has no working Python as {python}: {last}. Install Python 3.10 or newer "
            "there, or name its path with --python."
        )
    if tuple(map(int, version.split(".")[:2])) < _OLDEST_PYTHON:
        raise MachineError(
            f"{host} has Python {version} as {python}; 3.10 or newer is needed. Name a newer "
            "one with --python."
        )


def _mib(size_bytes: int) -> str:
    return f"{size_bytes / 2**20:.1f}"


def _parsed_json(text: str) -> dict[str, Any] | None:
    try:
        found = json.loads(text)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def _message(stderr: str) -> str:
    """Return the program's last message, or else the last lines: runtimes write there too."""
    _, mark, message = stderr.rpartition(_MARK)
    return message.strip() if mark else "\n".join(stderr.strip().splitlines()[-_SHOWN_LINES:])
