"""Calls of the device program on a board over SSH, with its JSON and its errors."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from edgedistill.deployment.connection import COMMAND_TIMEOUT_S, CommandResult, Connection
from edgedistill.errors import (
    ContractError,
    DataError,
    EdgeDistillError,
    IntegrityError,
    MachineError,
    UsageError,
)

_MARK: Final = "error: "  # begins the program's own messages on stderr
_SHOWN_LINES: Final = 5
_ERRORS: Final = {
    kind.exit_code: kind
    for kind in (UsageError, DataError, ContractError, MachineError, IntegrityError)
}
_SIGNALS: Final = 128


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
        found = _json(result.stdout)
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


def _json(text: str) -> dict[str, Any] | None:
    try:
        found = json.loads(text)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def _message(stderr: str) -> str:
    """Return the program's last message, or else the last lines: runtimes write there too."""
    _, mark, message = stderr.rpartition(_MARK)
    return message.strip() if mark else "\n".join(stderr.strip().splitlines()[-_SHOWN_LINES:])
