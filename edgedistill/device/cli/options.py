"""The options that several commands have."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias

from edgedistill.device.cli.engine_options import add_engine_options

if TYPE_CHECKING:
    from edgedistill.device.benchmark import AutoRuns

AUTO: Final = "auto"
Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


def add_bundle(command: argparse.ArgumentParser) -> None:
    """Add the bundle, and which of its models."""
    command.add_argument("bundle", type=Path, metavar="BUNDLE", help="folder or .zip, or a release")
    command.add_argument("--model", metavar="NAME", help="instead of the chosen one")


def add_session_options(command: argparse.ArgumentParser) -> None:
    """Add how ONNX Runtime runs the model."""
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
    """Add the bundle, and how its model is run and timed."""
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
    """Return the number of timed calls, or what is enough.

    Raises:
        UsageError: the budget is no time.
    """
    from edgedistill.device.benchmark import AutoRuns

    enough = AutoRuns(budget_s=options.budget)
    return enough if options.runs == AUTO else int(options.runs)


def resolve_release(options: argparse.Namespace) -> None:
    """Let a release, or a link to one, stand for its bundle and for how its model is run.

    Raises:
        IntegrityError: the release's record is damaged.
    """
    if "bundle" not in options:
        return
    from edgedistill.device.releases.layout import resolve

    found = resolve(options.bundle)
    options.named = options.bundle  # as it was given: a link can come to lead elsewhere
    options.bundle, options.release = found.bundle, found.release
    for name in ("model", "threads", "provider"):
        if getattr(options, name, None) is None:
            setattr(options, name, getattr(found, name))
    if getattr(options, "cache", None) is None:
        options.cache = found.engines


def add_costs(command: argparse.ArgumentParser, *, default: bool) -> None:
    """Add whether throughput, memory and cold start are measured, which takes fresh processes."""
    command.add_argument(
        "--costs",
        action=argparse.BooleanOptionalAction,
        default=default,
        help="measure throughput, and in fresh processes memory and cold start",
    )


def add_json(command: argparse.ArgumentParser) -> None:
    """Add --json, the last option of every command."""
    command.add_argument("--json", action="store_true", help="print JSON, not a table")


def _runs(text: str) -> int | str:
    """Return a number or "auto"."""
    if text == AUTO:
        return text
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no number; give one, or {AUTO}") from None
