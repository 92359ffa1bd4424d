"""The command line of the device side: `python -m edgedistill.device`.

argparse, not click: a board has NumPy and a runtime, nothing else. Everything but the
parsers is imported after parsing, so that help is instant and Ctrl-C is always caught. Only the
parser of the chosen command is made: the first prediction on a board waits for it.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module

from edgedistill import __version__, set_library_defaults
from edgedistill.device.cli import COMMANDS
from edgedistill.device.cli.options import resolve_release
from edgedistill.device.cli.output import EXIT_INTERRUPTED
from edgedistill.errors import EdgeDistillError, MachineError
from edgedistill.io.terminal import echo

_PROG = "python -m edgedistill.device"
_INTERRUPTED = "Interrupted; nothing half written was kept."
_EPILOG = """example:
  %(prog)s validate gunpoint.zip --threads 2 --out report.json

exit codes:
  0  the contract is kept
  2  a wrong command or argument
  3  a model that cannot be used
  4  the contract is broken, or something drifted
  5  something is missing on this machine
  6  a bundle that cannot be trusted
"""


def main(arguments: Sequence[str] | None = None, *, prog: str = _PROG) -> int:
    """Run one command and return its exit code; messages go to stderr.

    Args:
        arguments: arguments of the command, by default those of the process.
        prog: name of the program in help texts.
    """
    set_library_defaults()
    arguments = sys.argv[1:] if arguments is None else arguments
    options = _parser(prog, arguments).parse_args(arguments)
    try:
        resolve_release(options)
        code: int = options.command(options)
        sys.stdout.flush()
    except KeyboardInterrupt:
        return _stop(_INTERRUPTED, EXIT_INTERRUPTED)
    except (EdgeDistillError, ImportError, OSError) as error:
        if _is_interrupt(error):
            return _stop(_INTERRUPTED, EXIT_INTERRUPTED)
        return _stop(*_error_message(error))
    return code


def _stop(message: str, code: int) -> int:
    echo(message, err=True)
    return code


def _is_interrupt(error: BaseException | None) -> bool:
    """Return whether Ctrl-C caused it: during an extension's import it becomes an ImportError."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__ or error.__context__
    return error is not None


def _error_message(error: Exception) -> tuple[str, int]:
    if isinstance(error, EdgeDistillError):
        return f"error: {error}", error.exit_code
    if isinstance(error, ImportError):
        needed = error.name or "numpy onnxruntime"
        return (
            f"error: A package cannot be loaded on this machine: {error}. Install it with: "
            f"python -m pip install {needed}",
            MachineError.exit_code,
        )
    return f"error: {error}. Check the path and the disk.", MachineError.exit_code


def _parser(prog: str, arguments: Sequence[str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=prog,
        description="Install, validate, time and run bundles on this machine.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"edgedistill {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    first = arguments[0] if arguments else ""
    for name in [first] if first in COMMANDS else COMMANDS:
        module = import_module(f"edgedistill.device.cli.{COMMANDS[name]}")
        getattr(module, f"add_{name}")(commands)
    return parser


if __name__ == "__main__":
    sys.exit(main())
