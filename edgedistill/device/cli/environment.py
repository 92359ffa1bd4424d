"""`environment`: what machine this is."""

from __future__ import annotations

import argparse
import json

from edgedistill.device.cli.options import Commands, add_json
from edgedistill.device.cli.output import EXIT_KEPT, table


def add(commands: Commands) -> None:
    """Add the command."""
    command = commands.add_parser("environment", help="say what machine this is")
    add_json(command)
    command.set_defaults(command=_environment)


def _environment(options: argparse.Namespace) -> int:
    from edgedistill.device.telemetry import environment

    found = environment()
    print(json.dumps(found, indent=2) if options.json else table(found.items()))
    return EXIT_KEPT
