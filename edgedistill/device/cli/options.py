"""Options that several commands share.

The options of a TensorRT engine are defined once, so that `validate` finds the engine of `build`.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias

from edgedistill.io.terminal import echo

if TYPE_CHECKING:
    from edgedistill.device.benchmark import AutoRuns
    from edgedistill.runtimes.tensorrt.engine_cache import Engines


AUTO: Final = "auto"
Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


def add_bundle(command: argparse.ArgumentParser) -> None:
    """Add the options that select a bundle and one of its models."""
    command.add_argument(
        "bundle", type=Path, metavar="BUNDLE", help="folder or .zip, a run, or a release"
    )
    command.add_argument("--model", metavar="NAME", help="instead of the chosen one")


def add_session_options(command: argparse.ArgumentParser) -> None:
    """Add the options of an ONNX Runtime session."""
    command.add_argument(
        "--threads", type=int, help="CPU threads of one call (default: as tuned, else 1)"
    )
    command.add_argument(
        "--provider",
        metavar="NAME",
        help="who computes in ONNX Runtime: cpu, cuda, tensorrt, or its own name of another one "
        "(default: cpu)",
    )


def add_model_options(command: argparse.ArgumentParser) -> None:
    """Add the options of a bundle's model, its session and its timing."""
    add_bundle(command)
    add_session_options(command)
    command.add_argument(
        "--runs",
        type=_runs,
        default=AUTO,
        metavar="N",
        help=f"timed calls; {AUTO!r}: until the p95 is known to 5 %% or --budget is used up "
        "(default: %(default)s)",
    )
    command.add_argument(
        "--budget", type=float, default=10.0, metavar="S", help="seconds (default: %(default)g)"
    )
    add_engine_options(command)


def runs_from_options(options: argparse.Namespace) -> int | AutoRuns:
    """Return the number of timed calls, or the rule that stops them.

    Raises:
        UsageError: the budget is not above 0.
    """
    from edgedistill.device.benchmark import AutoRuns

    enough = AutoRuns(budget_s=options.budget)
    return enough if options.runs == AUTO else int(options.runs)


def resolve_release(options: argparse.Namespace) -> None:
    """Replace a release, or a link to one, by its bundle and its run settings.

    Raises:
        IntegrityError: the release's record is damaged.
    """
    if "bundle" not in options:
        return
    from edgedistill.device.releases.layout import resolve

    found = resolve(options.bundle)
    options.named = options.bundle  # the path of the command line: a link may change
    options.bundle, options.release = found.bundle, found.release
    for name in ("model", "threads", "provider"):
        if getattr(options, name, None) is None:
            setattr(options, name, getattr(found, name))
    if getattr(options, "cache", None) is None:
        options.cache = found.engines


def add_costs(command: argparse.ArgumentParser, *, default: bool) -> None:
    """Add --costs: measure throughput, memory and cold start, in fresh processes."""
    command.add_argument(
        "--costs",
        action=argparse.BooleanOptionalAction,
        default=default,
        help="measure throughput, and in fresh processes memory and cold start",
    )


def add_json(command: argparse.ArgumentParser) -> None:
    """Add --json, the last option of every command."""
    command.add_argument("--json", action="store_true", help="print JSON, not a table")


def add_engine_options(command: argparse.ArgumentParser) -> None:
    """Add the options to a command."""
    engine = command.add_argument_group("TensorRT engine")
    engine.add_argument("--cache", type=Path, metavar="DIR", help="where engines are kept")
    engine.add_argument("--dla", type=int, metavar="N", help="run on DLA core N, one series a call")
    engine.add_argument(
        "--level",
        type=int,
        default=3,
        metavar="N",
        help="of the builder's search, 0 to 5 (default: %(default)s)",
    )
    engine.add_argument(
        "--workspace-mib",
        type=int,
        default=1024,
        metavar="N",
        help="limit of scratch memory (default: %(default)s)",
    )
    engine.add_argument(
        "--max-batch",
        type=int,
        default=64,
        metavar="N",
        help="series in one call (default: %(default)s)",
    )
    engine.add_argument(
        "--version-compatible", action="store_true", help="later TensorRT may run it"
    )
    engine.add_argument("--refit", action="store_true", help="weights may be replaced")


def engines_from_options(options: argparse.Namespace) -> Engines:
    """Return the engine settings of the options; NumPy is needed from here on.

    Raises:
        UsageError: a value that TensorRT does not support.
    """
    from edgedistill.runtimes.tensorrt.builder import BuildOptions
    from edgedistill.runtimes.tensorrt.engine_cache import Engines, default_cache

    build = BuildOptions(
        max_batch=options.max_batch,
        level=options.level,
        workspace_mib=options.workspace_mib,
        dla_core=options.dla,
        version_compatible=options.version_compatible,
        refit=options.refit,
    )
    return Engines(options=build, cache=options.cache or default_cache(), log=_log)


def _runs(text: str) -> int | str:
    """Return a number or "auto"."""
    if text == AUTO:
        return text
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no number; give one, or {AUTO}") from None


def _log(line: str) -> None:
    echo(line, err=True)
