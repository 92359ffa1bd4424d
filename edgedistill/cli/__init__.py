"""The command line: a command parses, calls one library function, prints.

Commands import the library when they run, so that `--help` is instant.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import click

from edgedistill import __version__, public_name, set_library_defaults
from edgedistill.cli.compare import compare
from edgedistill.cli.deployment import deploy, program, rollback, status, trust
from edgedistill.cli.doctor import doctor
from edgedistill.cli.experiment import experiment
from edgedistill.cli.explain import explain
from edgedistill.cli.files import inspect, report, sign, verify
from edgedistill.cli.stages import bundle, compress, distill, export, init, optimize, train
from edgedistill.cli.validation import benchmark, validate
from edgedistill.errors import EdgeDistillError, MachineError, UsageError
from edgedistill.io.terminal import echo

__all__ = [
    "main",
    "progress",
]
_HOMES = {
    "output": ("progress",),
}

INTERRUPTED = 130
_INTERRUPTED = "Interrupted; nothing half written was kept. Run it again to go on."
_DISTRIBUTIONS = {"google": "protobuf", "sklearn": "scikit-learn", "yaml": "pyyaml"}


class _Commands(click.Group):
    """The commands of the workstation; one of the board's alone is refused with its program."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        from edgedistill.device.cli import COMMANDS

        if args[0] in COMMANDS and self.get_command(ctx, args[0]) is None:
            raise click.UsageError(
                f"{args[0]!r} is a command of the device side, here too. "
                f"Run: python -m edgedistill.device {args[0]}"
            )
        return super().resolve_command(ctx, args)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="edgedistill")
def cli() -> None:
    """Put a small time-series classifier on the edge that reasons like its big teacher.

    \b
    Example: edgedistill compress --data GunPoint

    \b
    Exit codes:
      0  done; for compress, bundle and validate: the contract is kept; for compare: alike
      1  a run of an experiment failed, or a board was not tried
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
    explain,
    compare,
    experiment,
    report,
    inspect,
    sign,
    verify,
    deploy,
    rollback,
    status,
    trust,
    doctor,
    program,
):
    cli.add_command(_command)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command and leave with its exit code; the one place that prints an error."""
    sys.exit(run(arguments))


def run(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code."""
    set_library_defaults()
    try:
        code = cli.main(args=arguments, prog_name="edgedistill", standalone_mode=False)
        sys.stdout.flush()
    except click.ClickException as error:
        error.show()
        return UsageError.exit_code
    except (KeyboardInterrupt, click.Abort):
        return _stop(_INTERRUPTED, INTERRUPTED)
    except EdgeDistillError as error:
        return _stop(f"error: {error}", error.exit_code)
    except ImportError as error:
        if _is_interrupt(error):
            return _stop(_INTERRUPTED, INTERRUPTED)
        return _stop(_install_message(error), MachineError.exit_code)
    except OSError as error:
        return _stop(f"error: {error}. Check the path and the disk.", MachineError.exit_code)
    return code if isinstance(code, int) else 0


def _stop(message: str, code: int) -> int:
    echo(message, err=True)
    return code


def _is_interrupt(error: BaseException | None) -> bool:
    """Whether Ctrl-C is the cause: in an extension's import it becomes an ImportError."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__ or error.__context__
    return error is not None


def _install_message(error: ImportError) -> str:
    """Error message with the command that installs the missing package."""
    package = (error.name or "edgedistill").partition(".")[0]
    distribution = _DISTRIBUTIONS.get(package, package)
    return f"error: {error}. Install it with: python -m pip install {distribution}"


def __getattr__(name: str) -> object:
    return public_name(__name__, _HOMES, name)
