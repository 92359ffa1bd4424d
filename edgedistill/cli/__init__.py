"""The command line: a command parses, calls one library function, prints.

Commands import the library when they run, so that `--help` is instant.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import click

from edgedistill import __version__
from edgedistill.cli.compress import compress, init
from edgedistill.cli.files import inspect, report
from edgedistill.cli.stages import bundle, distill, export, optimize, train
from edgedistill.cli.validation import benchmark, validate
from edgedistill.errors import EdgeDistillError, MachineError, UsageError

INTERRUPTED = 130


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="edgedistill")
def cli() -> None:
    """Put a small time-series classifier on the edge that reasons like its big teacher.

    \b
    Example: edgedistill compress --data GunPoint

    \b
    Exit codes:
      0  done; for compress, bundle and validate: the contract is kept
      2  a wrong command, argument or recipe
      3  data or a model that cannot be used
      4  the contract or a verification is broken
      5  something is missing on this machine
      6  a hash, version or archive that cannot be trusted
    """


for _command in (
    init,
    compress,
    train,
    distill,
    export,
    optimize,
    bundle,
    validate,
    benchmark,
    report,
    inspect,
):
    cli.add_command(_command)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command and leave with its exit code; the one place that prints an error."""
    sys.exit(run(arguments))


def run(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code."""
    try:
        code = cli.main(args=arguments, prog_name="edgedistill", standalone_mode=False)
        sys.stdout.flush()
    except click.ClickException as error:
        error.show()
        return UsageError.exit_code
    except (KeyboardInterrupt, click.Abort):
        return _stop("Interrupted; nothing half written was kept.", INTERRUPTED)
    except EdgeDistillError as error:
        return _stop(f"error: {error}", error.exit_code)
    except ImportError as error:
        needed = error.name or "edgedistill"
        hint = f"Install it with: python -m pip install {needed}"
        return _stop(f"error: {error}. {hint}", MachineError.exit_code)
    except OSError as error:
        return _stop(f"error: {error}. Check the path and the disk.", MachineError.exit_code)
    return code if isinstance(code, int) else 0


def _stop(message: str, code: int) -> int:
    click.echo(message, err=True)
    return code
