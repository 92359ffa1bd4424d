"""Commands that describe this machine: `doctor` and `environment`."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from edgedistill.device.cli.options import Commands, add_json
from edgedistill.device.cli.output import EXIT_KEPT, table
from edgedistill.io.terminal import echo


def add_doctor(commands: Commands) -> None:
    """Add the command."""
    command = commands.add_parser("doctor", help="say what this machine has for deployment")
    command.add_argument(
        "--root",
        type=Path,
        default=Path("~/edgedistill"),
        help="where releases are, or will be (default: %(default)s)",
    )
    add_json(command)
    command.set_defaults(command=_doctor)


def add_environment(commands: Commands) -> None:
    """Add the command."""
    command = commands.add_parser("environment", help="say what machine this is")
    add_json(command)
    command.set_defaults(command=_environment)


def _doctor(options: argparse.Namespace) -> int:
    from edgedistill.device.doctor import facts

    found = facts(options.root)
    echo(json.dumps(found, indent=2) if options.json else table(_rows(found)))
    return EXIT_KEPT


def _rows(facts: dict[str, Any], above: str = "") -> Iterator[tuple[str, str]]:
    for name, value in facts.items():
        label = f"{above}{name.replace('_', ' ')}"
        if isinstance(value, dict):
            yield from _rows(value, f"{label}: ")
        elif isinstance(value, list):
            yield label, ", ".join(map(str, value))
        elif value is not None:
            yield label, str(value)


def _environment(options: argparse.Namespace) -> int:
    from edgedistill.device.telemetry import environment

    found = environment()
    echo(json.dumps(found, indent=2) if options.json else table(found.items()))
    return EXIT_KEPT
