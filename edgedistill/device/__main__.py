"""The command line of the device side: `python -m edgedistill.device`.

argparse, not click: a board has NumPy and a runtime, nothing else. Everything but the
parsers is imported after parsing, so that help is instant and Ctrl-C is always caught. The
parser of a command that was not asked for is not made: a board's first prediction waits for it.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module

from edgedistill import __version__, set_library_defaults
from edgedistill.device.cli.options import resolve_release
from edgedistill.device.cli.output import EXIT_INTERRUPTED
from edgedistill.errors import EdgeDistillError, MachineError

_COMMANDS = {  # each with its module in `cli`
    "predict": "predict",
    "validate": "validate",
    "benchmark": "benchmark",
    "build": "build",
    "tune": "tune",
    "releases": "releases",
    "environment": "environment",
    "doctor": "doctor",
    "drift": "drift",
}
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
        arguments: by default those of the command line.
        prog: how it was started, for help.
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
        return _stop(*_explained(error))
    return code


def _stop(message: str, code: int) -> int:
    print(message, file=sys.stderr)
    return code


def _is_interrupt(error: BaseException | None) -> bool:
    """Say whether Ctrl-C is behind it: hit in an extension's import, it becomes an ImportError."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__ or error.__context__
    return error is not None


def _explained(error: Exception) -> tuple[str, int]:
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
    asked = arguments[0] if arguments else ""
    for module in [_COMMANDS[asked]] if asked in _COMMANDS else _COMMANDS.values():
        import_module(f"edgedistill.device.cli.{module}").add(commands)
    return parser


if __name__ == "__main__":
    sys.exit(main())
